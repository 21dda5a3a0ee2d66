"""Tells which processes live: each keeps a file in the journal's folder locked until it dies.

The lock is the operating system's own, so it is free the moment its holder dies, however it dies,
and a process id that is used again deceives nobody.
"""

from __future__ import annotations

import fcntl
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from uuid6 import uuid7

from smartops.settings import get_settings

_SUFFIX = ".alive"
_HOME_FILE = "home.id"


@dataclass(frozen=True)
class ProcessLock:
    """A file that this process holds locked."""

    id: UUID
    pid: int
    fd: int


_held: dict[Path, ProcessLock] = {}
_guard = threading.Lock()


def this_process(folder: Path) -> UUID:
    """Return the id of this process in a folder of journals, and keep it known as living."""
    with _guard:
        known = _held.get(folder)
        if known is not None and known.pid == os.getpid() and alive_path(folder, known.id).exists():
            return known.id
        lock = None
        while lock is None:
            lock = _lock(folder, uuid7())
        _held[folder] = lock
        return lock.id


def _lock(folder: Path, made: UUID) -> ProcessLock | None:
    """Lock a new file; return None where somebody took it for a dead process's and deleted it."""
    path = alive_path(folder, made)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with suppress(FileNotFoundError):
        if path.stat().st_ino == os.fstat(fd).st_ino:
            return ProcessLock(made, os.getpid(), fd)
    os.close(fd)
    return None


def _let_go_after_fork() -> None:
    """Close what was inherited: a child that outlives its parent must not keep it alive."""
    for lock in _held.values():
        with suppress(OSError):
            os.close(lock.fd)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_after_fork)


def alive_path(folder: Path, process: UUID) -> Path:
    """Return the file that is locked while a process lives."""
    return folder / f"{process}{_SUFFIX}"


def is_dead(folder: Path, process: UUID) -> bool:
    """Return whether a process that has written to this folder has gone."""
    return _if_dead(alive_path(folder, process))


def _if_dead(path: Path, *, delete: bool = False) -> bool:
    """Return whether nobody holds a file's lock; delete the file while it is surely nobody's."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except PermissionError:
        return False  # another user's process: not ours to judge
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if delete:
            path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def forget_the_dead(folder: Path, needed: set[UUID]) -> None:
    """Delete the files of dead processes, except of those that are still needed."""
    for path in folder.glob(f"*{_SUFFIX}"):
        with suppress(ValueError):
            if UUID(path.stem) not in needed:
                _if_dead(path, delete=True)


def let_machines_hear() -> None:
    """Let other machines hear that this one lives, where they are to hear of each other."""
    if get_settings().locks == "database":
        from smartops.audit import beats  # noqa: PLC0415 - SQLAlchemy takes long to import

        beats.begin()


def home_id(folder: Path) -> UUID:
    """Return the id of a folder of journals: who reads it can judge the processes that write it."""
    path = folder / _HOME_FILE
    with suppress(FileNotFoundError, ValueError):
        return UUID(path.read_text("utf-8").strip())
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{_HOME_FILE}.{os.getpid()}.{threading.get_ident()}"
    draft.write_text(f"{uuid7()}\n", encoding="utf-8")
    try:
        os.link(draft, path)  # fails where another process was first
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return UUID(path.read_text("utf-8").strip())
