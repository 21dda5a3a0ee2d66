"""The journal: a file for each process; a record is on the disk before the effect that it names.

Each file is a SQLite database in WAL mode with ``synchronous=FULL``: :meth:`Journal.append` returns
when the record survives kill -9 and loss of power, unless it said that the latter can wait.
Records of several threads share one commit.
Each record is a link of its run's hash chain. A file that the process keeps locked as long as it
lives lets others tell a quiet writer from a dead one.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from uuid6 import uuid7

from smartops.audit import liveness
from smartops.audit.chain import FIRST, link, micros
from smartops.audit.events import Event
from smartops.audit.liveness import home_id
from smartops.errors import JournalFull, JournalUnavailable
from smartops.settings import get_settings

SUFFIX = ".journal"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS stream (
    id TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, process TEXT NOT NULL,
    home TEXT NOT NULL, closed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS record (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id BLOB NOT NULL,
    run_id BLOB NOT NULL,
    run_seq INTEGER NOT NULL,
    type TEXT NOT NULL,
    at INTEGER NOT NULL,
    body TEXT NOT NULL,
    hash BLOB NOT NULL
);
"""
_LONGEST_USE = timedelta(hours=12)
_MOST_RECORDS = 50_000
_ROOM_IS_FRESH_S = 1.0
_LONGEST_UNSYNCED_S = 1.0
_PRAGMA = {True: "PRAGMA synchronous=FULL", False: "PRAGMA synchronous=NORMAL"}


@dataclass
class _Waiting:
    """Events that one caller has handed over, until they are on the disk."""

    rows: Sequence[tuple[bytes, bytes, str, int, str]]
    durable: bool
    done: bool = False
    error: BaseException | None = None


@dataclass
class _Chain:
    """Where a run's chain stands: how many records it has here, and the hash of the last."""

    run_seq: int = 0
    head: bytes = FIRST


@dataclass
class _Room:
    """What is known of the space left, and until when that may be believed."""

    problem: str = ""
    known_until: float = field(default=-1.0)


class Journal:
    """A journal file that this process writes. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self.stream = uuid7()
        self.path = folder / f"{self.stream}{SUFFIX}"
        self.records = 0
        self._opened = time.monotonic()
        self._queue: list[_Waiting] = []
        self._queue_guard = threading.Lock()
        self._writer = threading.Lock()
        self._chains: dict[bytes, _Chain] = {}
        self._room = _Room()
        self._durable = True
        self._synced_at = self._opened
        self._pid = os.getpid()
        self._retired = False
        self.broken = False
        """Whether a signal broke into a write, so that nobody knows what was written."""
        db: sqlite3.Connection | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.process = liveness.this_process(folder)
            db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _SCHEMA)
            who = (str(self.stream), socket.gethostname(), self._pid, str(self.process))
            db.execute(
                "INSERT INTO stream (id, host, pid, process, home) VALUES (?, ?, ?, ?, ?)",
                (*who, str(home_id(folder))),
            )
        except (OSError, sqlite3.Error) as error:
            if db is not None:
                db.close()
            with suppress(OSError):
                remove_files(self.path)
            raise _unavailable(folder, error) from error
        self._db = db

    @property
    def mine(self) -> bool:
        """Whether this process made the journal; a forked child needs its own."""
        return self._pid == os.getpid()

    @property
    def used_up(self) -> bool:
        """Whether the next record should begin a new file, so that this one can be shipped away."""
        age = time.monotonic() - self._opened
        too_old = age > _LONGEST_USE.total_seconds()
        return self.broken or self.records >= _MOST_RECORDS or too_old

    def append(self, *events: Event, durable: bool = True, intent: bool = False) -> None:
        """Write events; they are on the disk when this returns, in this order.

        ``intent`` says that an effect follows: then there must be room for its outcome as well.
        What is not ``durable`` survives kill -9; when the machine's power fails, it may be lost
        until the next durable record, or the next at all that comes a second later, takes it along.
        Raises JournalFull, JournalUnavailable.
        """
        if intent:
            self._need_room()
        rows = [
            (event.id.bytes, event.run_id.bytes, event.type, micros(event.at), event.body_text())
            for event in events
        ]
        waiting = _Waiting(rows, durable)
        with self._queue_guard:
            self._queue.append(waiting)
        with self._writer:
            # Else the one who wrote before has taken ours along.
            if not waiting.done and not self._over:
                self._write_queue()
        if not waiting.done:  # another thread has begun the next file
            get_journal().append(*events, durable=durable, intent=intent)
        elif waiting.error is not None:
            raise _unavailable(self.path, waiting.error) from waiting.error

    @property
    def _over(self) -> bool:
        """Whether what comes now belongs to the next file."""
        return self._retired or self.broken

    def _write_queue(self) -> None:
        """Write what everybody has handed over, in one commit."""
        with self._queue_guard:
            batch, self._queue = self._queue, []
        failure: BaseException | None = None
        try:
            self._commit(batch)
        except sqlite3.Error as error:
            failure = error
        except BaseException as error:
            # A signal's exception may come before or after the commit. Who knows? The file is left
            # as it is, and the next record begins a new one.
            self.broken, failure = True, error
            raise
        finally:
            for waiting in batch:
                waiting.done, waiting.error = True, failure

    def _commit(self, batch: list[_Waiting]) -> None:
        now = time.monotonic()
        durable = any(waiting.durable for waiting in batch)
        durable = durable or now - self._synced_at > _LONGEST_UNSYNCED_S
        if durable is not self._durable:
            self._db.execute(_PRAGMA[durable])
            self._durable = durable
        chains: dict[bytes, _Chain] = {}
        rows = [
            self._linked(chains, number, *row)
            for number, row in enumerate(
                (row for waiting in batch for row in waiting.rows), self.records + 1
            )
        ]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT INTO record (seq, id, run_id, run_seq, type, at, body, hash) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        if durable:  # it takes along what was written before without a sync
            self._synced_at = now
        self.records += len(rows)
        self._chains.update(chains)

    def _linked(
        self,
        chains: dict[bytes, _Chain],
        seq: int,
        event_id: bytes,
        run: bytes,
        event_type: str,
        at_us: int,
        body: str,
    ) -> tuple[object, ...]:
        """Return the row of a record, with its place in its run's chain."""
        before = chains.get(run) or self._chains.get(run) or _Chain()
        number = before.run_seq + 1
        stream = self.stream.bytes
        digest = link(before.head, stream, seq, run, number, event_id, event_type, at_us, body)
        chains[run] = _Chain(number, digest)
        return (seq, event_id, run, number, event_type, at_us, body, digest)

    def _need_room(self) -> None:
        """Raise JournalFull when there is no room for an effect's intent and outcome."""
        now = time.monotonic()
        if now >= self._room.known_until:
            self._room = _Room(_full(self.path.parent), now + _ROOM_IS_FRESH_S)
        if self._room.problem:
            raise JournalFull(
                self._room.problem,
                hint="Free disk space, or see with `smartops audit stats` whether the audit store "
                "takes what waits.",
            )

    def close(self, *, retire: bool = False) -> None:
        """Close the file and let readers know that nothing more will come.

        Who still holds a file that is ``retired`` writes to the next one.
        """
        with self._writer:
            self._retired = retire
            if self._queue and not self.broken:
                self._write_queue()
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if self.mine:
                with suppress(sqlite3.Error):  # a full disk; the process's death tells it too
                    self._db.execute("UPDATE stream SET closed = 1")
            self._db.close()


def _full(folder: Path) -> str:
    """Return why no effect may start, empty where there is room."""
    settings = get_settings()
    free = shutil.disk_usage(folder).free
    if free < settings.journal_reserve:
        reserve = settings.journal_reserve.human_readable(decimal=True)
        return f"the disk of the journal {folder} has less than {reserve} left"
    used = size(folder)
    if used > settings.journal_limit:
        limit = settings.journal_limit.human_readable(decimal=True)
        return f"the journal {folder} has reached its limit of {limit}"
    return ""


def size(folder: Path) -> int:
    """Return how many bytes the journals of a folder take."""
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                total += entry.stat().st_size
            except FileNotFoundError:
                continue  # shipped and deleted just now
    return total


def remove_files(path: Path) -> None:
    """Delete a journal with what SQLite keeps beside it."""
    for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        file.unlink(missing_ok=True)


def _unavailable(where: Path, error: BaseException) -> JournalUnavailable:
    kind = JournalFull if "is full" in str(error) else JournalUnavailable
    return kind(
        f"the journal at {where} cannot be written: {error}",
        hint="Free disk space or set SMARTOPS_HOME to a writable folder.",
    )


_current: Journal | None = None
_current_guard = threading.Lock()


def get_journal() -> Journal:
    """Return this process's journal in the home folder.

    It is opened on first use, after a fork, and when the one before is used up.
    """
    global _current  # noqa: PLW0603 - one file per process is the point
    with _current_guard:
        folder = get_settings().journal_dir
        known = _current
        if known is None or not known.mine or known.path.parent != folder:
            _current = Journal(folder)
        elif known.used_up:
            try:
                _current = Journal(folder)
            except JournalUnavailable:
                if known.broken:
                    raise
                return known  # it still works
            known.close(retire=True)
        assert _current is not None  # noqa: S101 - for the type checker
        return _current
