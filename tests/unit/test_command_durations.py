"""Durations on the command line: what is none is said by the option that it was given for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from smartops.cli.app import main


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("down", "--drain", "soon"), "--drain soon: write a duration"),
        (("down", "--drain", "P1D"), "--drain P1D: write a duration"),
        (("device", "watch", "line", "--every", "soon"), "--every soon: write a duration"),
        (("quality", "check", "x", "--look-back", "P1D"), "--look-back P1D: write a duration"),
        (
            ("quality", "check", "x", "--rows", "rows.json", "--look-back", "soon"),
            "--look-back soon: write a duration",
        ),
        (("alert", "mute", "fill", "--for", "soon"), "--for soon: write a duration"),
        (("alert", "mute", "fill", "--for", "999999999d"), "longer than a year"),
    ],
)
def test_what_is_no_duration(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    said: str,
) -> None:
    """One line, and bad use; nothing is read or done before that."""
    (tmp_path / "rows.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["smartops", *arguments])
    assert main() == 2
    assert said in capsys.readouterr().err
    assert not home.exists()
