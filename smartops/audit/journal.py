"""The journal: a file for each process; a record is on the disk before the effect that it names.

Each file is a SQLite database in WAL mode with ``synchronous=FULL``: :meth:`Journal.append` returns
when the record survives kill -9 and loss of power. A file beside it is locked as long as the
writer lives, so that a reader can tell a quiet writer from a dead one.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from filelock import FileLock, Timeout
from uuid6 import uuid7

from smartops.audit.events import Event
from smartops.errors import JournalUnavailable
from smartops.settings import get_settings

_SUFFIX = ".journal"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS stream (id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS record (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    type TEXT NOT NULL,
    at TEXT NOT NULL,
    body TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Record:
    """An event as it stands in a journal; ``seq`` counts from 1 without gaps."""

    seq: int
    id: UUID
    run_id: UUID
    type: str
    at: str
    body: str


class Journal:
    """The journal file that this process writes. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self.stream = uuid7()
        self.path = folder / f"{self.stream}{_SUFFIX}"
        self._guard = threading.Lock()
        self._pid = os.getpid()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._alive = FileLock(alive_path(self.path))
            self._alive.acquire(blocking=False)
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA)
            self._db.execute(
                "INSERT INTO stream VALUES (?, ?, ?)",
                (str(self.stream), socket.gethostname(), self._pid),
            )
        except (OSError, sqlite3.Error, Timeout) as error:
            raise _unavailable(folder, error) from error

    @property
    def mine(self) -> bool:
        """Whether this process made the journal; a forked child needs its own."""
        return self._pid == os.getpid()

    def append(self, event: Event) -> None:
        """Write one event; it is on the disk when this returns. Raises JournalUnavailable."""
        row = (
            str(event.id),
            str(event.run_id),
            event.type,
            event.at.isoformat(),
            event.body_text(),
        )
        try:
            with self._guard:
                self._db.execute(
                    "INSERT INTO record (id, run_id, type, at, body) VALUES (?, ?, ?, ?, ?)", row
                )
        except sqlite3.Error as error:
            raise _unavailable(self.path, error) from error

    def close(self) -> None:
        """Close the file and let readers know that nothing more will come."""
        with self._guard:
            self._db.close()
            self._alive.release()


def _unavailable(where: Path, error: Exception) -> JournalUnavailable:
    return JournalUnavailable(
        f"the journal at {where} cannot be written: {error}",
        hint="Free disk space or set SMARTOPS_HOME to a writable folder.",
    )


_current: Journal | None = None
_current_guard = threading.Lock()


def get_journal() -> Journal:
    """Return this process's journal in the home folder; open it on first use and after a fork."""
    global _current  # noqa: PLW0603 - one file per process is the point
    with _current_guard:
        folder = get_settings().journal_dir
        if _current is None or not _current.mine or _current.path.parent != folder:
            _current = Journal(folder)
        return _current


# --- the reading side -------------------------------------------------------------------------


def alive_path(path: Path) -> Path:
    """Return the file that is locked while the writer of a journal lives."""
    return path.with_suffix(".alive")


def journal_files(folder: Path) -> list[Path]:
    """Return all journal files, oldest first."""
    return sorted(folder.glob(f"*{_SUFFIX}")) if folder.is_dir() else []


class JournalReader:
    """Reads a journal, written by this or another process, living or dead."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None)
        row = self._db.execute("SELECT id, host, pid FROM stream").fetchone()
        self.stream: UUID | None = UUID(row[0]) if row else None
        self.host: str = row[1] if row else ""
        self.pid: int = row[2] if row else 0

    def after(self, seq: int, limit: int) -> list[Record]:
        """Return up to ``limit`` records that follow ``seq``."""
        rows = self._db.execute(
            "SELECT seq, id, run_id, type, at, body FROM record WHERE seq > ? ORDER BY seq LIMIT ?",
            (seq, limit),
        )
        return [Record(r[0], UUID(r[1]), UUID(r[2]), r[3], r[4], r[5]) for r in rows]

    def count_after(self, seq: int) -> int:
        """Return how many records follow ``seq``."""
        row = self._db.execute("SELECT count(*) FROM record WHERE seq > ?", (seq,)).fetchone()
        return int(row[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def writer_is_dead(path: Path) -> bool:
    """Return whether the writer of a journal has gone."""
    lock = FileLock(alive_path(path))
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    lock.release()
    return True


def remove(path: Path) -> None:
    """Delete a journal whose writer is dead and whose every record is in the store."""
    for file in _files_of(path):
        file.unlink(missing_ok=True)


def _files_of(path: Path) -> Iterator[Path]:
    yield path
    yield path.with_name(path.name + "-wal")
    yield path.with_name(path.name + "-shm")
    yield alive_path(path)
