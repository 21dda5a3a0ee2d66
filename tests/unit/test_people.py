"""Who gives a command cannot be chosen by whoever gives it."""

from __future__ import annotations

import os
import pwd

import pytest

from smartops.people import who_is_here


def test_the_environment_names_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root may be somebody else: whom sudo names."""
    monkeypatch.setenv("LOGNAME", "eve")
    monkeypatch.setenv("SUDO_USER", "mallory")
    nobody = pwd.getpwnam("nobody")
    for name in ("getuid", "geteuid"):
        monkeypatch.setattr(os, name, lambda: nobody.pw_uid)
    assert who_is_here() == "nobody"
    for name in ("getuid", "geteuid"):
        monkeypatch.setattr(os, name, lambda: 4_000_000_000)
    assert who_is_here() == "4000000000"
    for name in ("getuid", "geteuid"):
        monkeypatch.setattr(os, name, lambda: 0)
    assert who_is_here() == "mallory"
    monkeypatch.delenv("SUDO_USER")
    assert who_is_here() == "eve"
