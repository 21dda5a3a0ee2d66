"""What the device bridge remembers: events that it has taken, the last values, what it did.

A small SQLite file in the home folder, on disk before anything is done with an event.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

_KEPT_S = 7 * 86_400.0
_TABLES = """
CREATE TABLE IF NOT EXISTS taken (
    source TEXT NOT NULL, key TEXT NOT NULL, content TEXT NOT NULL, event TEXT NOT NULL,
    event_id TEXT NOT NULL, done INTEGER NOT NULL DEFAULT 0,
    acknowledged INTEGER NOT NULL DEFAULT 0, run_id TEXT, problem TEXT, at REAL NOT NULL,
    PRIMARY KEY (source, key)
);
CREATE INDEX IF NOT EXISTS taken_open ON taken (source, acknowledged, content);
CREATE TABLE IF NOT EXISTS last_value (
    source TEXT NOT NULL, tag TEXT NOT NULL, reading TEXT NOT NULL, PRIMARY KEY (source, tag)
);
CREATE TABLE IF NOT EXISTS source (
    name TEXT PRIMARY KEY, state TEXT NOT NULL, since REAL NOT NULL, problem TEXT NOT NULL,
    counts TEXT NOT NULL, last_at REAL
);
"""
_TAKEN = "source, key, event, event_id, done, run_id"
COUNTS = ("received", "unwanted", "repeated", "missed", "started", "told", "refused")
"""What is counted of a source: what came; what ``when`` did not want; what was known already;
changes that a later one stood for; jobs that were started; events without a job; and events that
could not be used, whose reason is kept."""


@dataclass(frozen=True)
class Taken:
    """An event that the bridge is responsible for from now on."""

    source: str
    key: str
    event: dict[str, Any]
    event_id: UUID
    """The same for the same event, however often it is taken."""
    done: bool
    run_id: UUID | None = None
    """The run that was started for it."""


@dataclass(frozen=True)
class SourceState:
    """How a source is doing."""

    name: str
    state: str
    since: float
    """Seconds since 1970."""
    problem: str
    counts: dict[str, int]
    last_at: float | None
    """When an event of it was dealt with last."""


class Ledger:
    """The file. One bridge writes it; others may read it. Raises sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_TABLES)

    def forget_old(self) -> None:
        """Forget events that were dealt with a week ago."""
        self._db.execute("DELETE FROM taken WHERE done AND at < ?", (time.time() - _KEPT_S,))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- events ---------------------------------------------------------------------------------

    def take(self, source: str, key: str, event: dict[str, Any], content: str = "") -> Taken:
        """Take an event, and return what is known of it: it may be done already.

        One that could not be used then, or was dealt with a week ago, is taken anew.
        """
        now = time.time()
        self._db.execute(
            "DELETE FROM taken WHERE source = ? AND key = ? AND done AND (at < ? OR problem != '')",
            (source, key, now - _KEPT_S),
        )
        self._db.execute(
            "INSERT OR IGNORE INTO taken (source, key, content, event, event_id, at) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (source, key, content, json.dumps(event), str(uuid4()), now),
        )
        row = self._db.execute(
            f"SELECT {_TAKEN} FROM taken WHERE source = ? AND key = ?",  # noqa: S608 - a constant
            (source, key),
        ).fetchone()
        return _taken(row)

    def take_change(
        self, source: str, key: str, event: dict[str, Any], place: str, reading: dict[str, Any]
    ) -> Taken:
        """Take a change of a tag, whose reading is the one that counted last from now on."""
        with self._transaction():
            taken = self.take(source, key, event)
            self.set_last_value(place, reading["tag"], reading)
        return taken

    def started(self, taken: Taken, run_id: UUID) -> None:
        """Note which run was started for an event, which is not dealt with yet."""
        self._db.execute(
            "UPDATE taken SET run_id = ? WHERE source = ? AND key = ?",
            (str(run_id), taken.source, taken.key),
        )

    def done(self, taken: Taken, run_id: UUID | None, problem: str = "") -> None:
        """Note and count that an event was dealt with: by which run, or why by none."""
        ended = "started" if run_id else "refused" if problem else "told"
        with self._transaction():
            self._count(taken.source, {ended: 1})
            self._db.execute(
                "UPDATE taken SET done = 1, run_id = ?, problem = ? WHERE source = ? AND key = ?",
                (run_id and str(run_id), problem, taken.source, taken.key),
            )
            self._db.execute(
                "UPDATE source SET last_at = ? WHERE name = ?", (time.time(), taken.source)
            )

    def acknowledging(self, source: str, key: str) -> None:
        """Note that the broker is about to be told that it need not send a message again."""
        self._db.execute(
            "UPDATE taken SET acknowledged = 1 WHERE source = ? AND key = ?", (source, key)
        )

    def confirmed(self, source: str, keys: Sequence[str]) -> None:
        """Note that the broker has surely heard that: it will not send these messages again."""
        self._db.executemany(
            "UPDATE taken SET acknowledged = 2 WHERE source = ? AND key = ?",
            [(source, key) for key in keys],
        )

    def sent_before(self, source: str, content: str) -> str | None:
        """Return the key of a message of this content that the broker may send again."""
        row = self._db.execute(
            "SELECT key FROM taken WHERE source = ? AND content = ? AND acknowledged < 2 "
            "ORDER BY at DESC LIMIT 1",
            (source, content),
        ).fetchone()
        return None if row is None else str(row[0])

    def unfinished(self, source: str) -> list[Taken]:
        """Return what was taken and not dealt with, the oldest first."""
        rows = self._db.execute(
            f"SELECT {_TAKEN} FROM taken WHERE source = ? AND NOT done ORDER BY at",  # noqa: S608
            (source,),
        )
        return [_taken(row) for row in rows.fetchall()]

    def problems(self, limit: int = 20) -> list[dict[str, Any]]:
        """Return the last events that could not be used, the newest first."""
        rows = self._db.execute(
            "SELECT source, event, problem, at FROM taken WHERE problem != '' "
            "ORDER BY at DESC LIMIT ?",
            (limit,),
        )
        return [
            {"source": source, "event": json.loads(event), "problem": problem, "at": at}
            for source, event, problem, at in rows
        ]

    # --- the last values of tags ------------------------------------------------------------------

    def last_values(self, source: str) -> dict[str, dict[str, Any]]:
        """Return the reading of each tag that counted last, as JSON objects."""
        rows = self._db.execute("SELECT tag, reading FROM last_value WHERE source = ?", (source,))
        return {tag: json.loads(reading) for tag, reading in rows}

    def set_last_value(self, source: str, tag: str, reading: dict[str, Any]) -> None:
        """Keep the reading of a tag that counted last."""
        self._db.execute(
            "INSERT OR REPLACE INTO last_value (source, tag, reading) VALUES (?, ?, ?)",
            (source, tag, json.dumps(reading)),
        )

    # --- how it is going --------------------------------------------------------------------------

    def say(self, source: str, state: str, problem: str = "") -> bool:
        """Note how a source is doing; return whether that is news."""
        known = self._db.execute(
            "SELECT state, problem FROM source WHERE name = ?", (source,)
        ).fetchone()
        if known == (state, problem):
            return False
        self._db.execute(
            "INSERT INTO source (name, state, since, problem, counts) VALUES (?, ?, ?, ?, '{}') "
            "ON CONFLICT (name) DO UPDATE SET state = excluded.state, problem = excluded.problem, "
            "since = CASE WHEN state = excluded.state THEN since ELSE excluded.since END",
            (source, state, time.time(), problem),
        )
        return True

    def count(self, source: str, counts: Mapping[str, int]) -> None:
        """Count what has come of a source, by the names in COUNTS."""
        if any(counts.values()):
            with self._transaction():
                self._count(source, counts)

    def _count(self, source: str, counts: Mapping[str, int]) -> None:
        row = self._db.execute("SELECT counts FROM source WHERE name = ?", (source,)).fetchone()
        sums = Counter(json.loads(row[0]) if row else {})
        sums.update(counts)
        self._db.execute("UPDATE source SET counts = ? WHERE name = ?", (json.dumps(sums), source))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def sources(self) -> list[SourceState]:
        """Return how each source is doing, by name."""
        rows = self._db.execute(
            "SELECT name, state, since, problem, counts, last_at FROM source ORDER BY name"
        )
        return [
            SourceState(name, state, since, problem, _counts(counts), last_at)
            for name, state, since, problem, counts, last_at in rows
        ]

    def forget_sources(self, names: set[str]) -> None:
        """Remove what is told of sources that are not in the file any more."""
        for state in self.sources():
            if state.name not in names:
                self._db.execute("DELETE FROM source WHERE name = ?", (state.name,))
        rows = self._db.execute("SELECT DISTINCT source FROM last_value").fetchall()
        for (place,) in rows:
            if str(place).partition(" ")[0] not in names:
                self._db.execute("DELETE FROM last_value WHERE source = ?", (place,))


def _taken(row: tuple[Any, ...]) -> Taken:
    source, key, event, event_id, done, run_id = row
    run = None if run_id is None else UUID(run_id)
    return Taken(source, key, json.loads(event), UUID(event_id), bool(done), run)


def _counts(text: str) -> dict[str, int]:
    found = json.loads(text)
    return {what: int(found.get(what, 0)) for what in COUNTS}
