"""Reads journals, written by this or another process, living or dead, of this version or before."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from smartops.audit import liveness
from smartops.audit.chain import FIRST, link, micros, moment
from smartops.audit.journal import SUFFIX

_COLUMNS = "seq, id, run_id, run_seq, type, at, body, hash"


class Record(NamedTuple):
    """An event as it stands in a journal; ``seq`` counts from 1 without gaps.

    ``run_seq`` counts the records of its run in this journal, ``hash`` ends their chain so far.
    Ids are 16 bytes, ``at_us`` is in microseconds since 1970.
    """

    seq: int
    id: bytes
    run_id: bytes
    run_seq: int
    type: str
    at_us: int
    body: str
    hash: bytes

    @property
    def run(self) -> UUID:
        """The run's id."""
        return UUID(bytes=self.run_id)

    @property
    def at(self) -> datetime:
        """When it happened."""
        return moment(self.at_us)


class Writer(NamedTuple):
    """Who writes a journal: where it runs, and the process's id there."""

    stream: UUID
    host: str
    pid: int
    process: UUID
    home: UUID


def journal_files(folder: Path) -> list[Path]:
    """Return all journal files, oldest first."""
    return sorted(folder.glob(f"*{SUFFIX}")) if folder.is_dir() else []


def _connect(path: Path) -> sqlite3.Connection:
    """Open a journal to read it, and to write only where that cannot be helped.

    The last one who closes a file that it may write takes the log away that SQLite keeps beside it.
    SQLite knows by locks who else has it open, and a process loses those as soon as it reads the
    file by other means, as a backup does: https://www.sqlite.org/howtocorrupt.html#_posix_advisory.
    The index in shared memory is opened to be read as well: the first one who may write it cuts it
    short, and a process that has it mapped dies of SIGBUS, if that process has lost its lock.
    A journal that was closed or broken off without its log can only be opened to be written.
    """
    address = f"file:{path}?mode=ro&readonly_shm=1"
    db = sqlite3.connect(address, uri=True, isolation_level=None)
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        db.close()
        db = sqlite3.connect(f"file:{path}?mode=rw", uri=True, isolation_level=None)
    return db


class JournalReader:
    """Reads one journal file. Raises sqlite3.DatabaseError where it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = _connect(path)
        known = {row[1] for row in self._db.execute("PRAGMA table_info(stream)")}
        self._old = bool(known) and "process" not in known
        self.closed = False
        self.writer: Writer | None = self._writer()

    def _writer(self) -> Writer | None:
        if self._old:
            row = self._db.execute("SELECT id, host, pid FROM stream").fetchone()
            # The stream's own lock file was the sign of life: its name is the same.
            process = UUID(row[0]) if row else None
            return Writer(UUID(row[0]), row[1], row[2], process, UUID(int=0)) if process else None
        query = "SELECT id, host, pid, process, home, closed FROM stream"
        row = self._db.execute(query).fetchone()
        if row is None:
            return None
        self.closed = bool(row[5])
        return Writer(UUID(row[0]), row[1], row[2], UUID(row[3]), UUID(row[4]))

    @property
    def finished(self) -> bool:
        """Whether nothing more will be written to it. Ask before the last read."""
        if self.writer is None:
            return False
        return self.closed or liveness.is_dead(self.path.parent, self.writer.process)

    def after(self, seq: int, limit: int) -> list[Record]:
        """Return up to ``limit`` records that follow ``seq``."""
        if self._old:
            return [record for record in self._linked() if record.seq > seq][:limit]
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM record WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608
            (seq, limit),
        )
        return [Record._make(row) for row in rows]

    def _linked(self) -> Iterator[Record]:
        """Yield the records of a journal from before there were chains, with their chain."""
        heads: dict[bytes, tuple[int, bytes]] = {}
        assert self.writer is not None  # noqa: S101 - for the type checker
        stream = self.writer.stream.bytes
        rows = self._db.execute("SELECT seq, id, run_id, type, at, body FROM record ORDER BY seq")
        for seq, event_id, run_id, event_type, at, body in rows:
            run, own = UUID(run_id).bytes, UUID(event_id).bytes
            at_us = micros(datetime.fromisoformat(at))
            count, head = heads.get(run, (0, FIRST))
            head = link(head, stream, seq, run, count + 1, own, event_type, at_us, body)
            heads[run] = (count + 1, head)
            yield Record(seq, own, run, count + 1, event_type, at_us, body, head)

    def count_after(self, seq: int) -> int:
        """Return how many records follow ``seq``."""
        row = self._db.execute("SELECT count(*) FROM record WHERE seq > ?", (seq,)).fetchone()
        return int(row[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()
