"""Folders for what a browser writes with secrets in it: cleared away when their owner dies."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smartops.settings import get_settings


@contextmanager
def work_folder() -> Iterator[Path]:
    """Give a folder for what holds secrets still; those of dead processes are cleared away."""
    parent = get_settings().home / "browser-work"
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in parent.iterdir():
        _clear(left)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="."))  # hidden until it has an owner
    owner = os.open(folder / "owner", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(owner, fcntl.LOCK_EX)
    folder = folder.rename(folder.with_name(folder.name[1:]))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(owner)


def _clear(folder: Path) -> None:
    if folder.name.startswith("."):
        return
    try:
        owner = os.open(folder / "owner", os.O_RDWR)
    except OSError:
        return  # it is being cleared away
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(owner)
