"""Files that are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from smartops.drivers.wire_notes import write_note
from smartops.whole_file import write_whole


def test_the_new_takes_the_place_of_the_old(tmp_path: Path) -> None:
    """With the rights that it is to have, and nothing beside it."""
    path = tmp_path / "token"
    for content in (b"one", b"two"):
        write_whole(path, content, mode=0o600)
        assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_nothing_beside_the_old(tmp_path: Path) -> None:
    """A note that cannot be written, as on a full disk, does not pile up."""
    path = tmp_path / "note.json"
    path.mkdir()
    with pytest.raises(OSError, match=r"note\.json"):
        write_note(path, {"a": 1})
    assert list(tmp_path.iterdir()) == [path]
