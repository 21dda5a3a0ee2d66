"""Compares the tables that people query with the events that they are derived from.

The events of a few runs at a time are shown once more, in an empty store beside it; every row has
to come out as it stands. This finds what the chain cannot: a table that was changed by hand.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Table
from sqlalchemy.engine import Connection

from smartops.audit import models, report_tables
from smartops.audit.chain import micros
from smartops.audit.journal_reader import Record, Writer
from smartops.audit.projection import Projection
from smartops.audit.pruned import Pruned, pruned
from smartops.audit.store import NOT_SHOWN, Store
from smartops.audit.verify import BadRow

_AT_ONCE = 100
_MARGIN = timedelta(days=3)
"""How long after a pruning's moment a row may have lost events of its beginning."""
_FROM_STREAM = frozenset({"host", "pid", "process", "home", "number"})
"""Columns that come from who wrote, not from what was written; and numbers given on arrival."""
_TABLES: tuple[tuple[Table, str], ...] = (
    (models.job_run, "id"),
    (models.step_run, "run_id"),
    (models.device_command, "run_id"),
    (models.log_line, "run_id"),
    (models.reading, "run_id"),
    (models.run_process, "run_id"),
    (models.artifact, "run_id"),
    (models.approval, "run_id"),
    (models.decision, "run_id"),
    (models.child_run, "run_id"),
    (models.device_change, "run_id"),
    (models.quality_result, "run_id"),
    (models.device_exchange, "run_id"),
    (models.hold, "run_id"),
    (report_tables.lock_wait, "run_id"),
)


def first_difference(store: Store) -> BadRow | None:
    """Return the first row that its events do not give, None where all are. Needs SQLite 3.35.

    Raises StoreUnavailable.
    """
    with tempfile.TemporaryDirectory(prefix="smartops-replay-") as folder:
        scratch = Store(f"sqlite:///{folder}/replay.sqlite")
        models.metadata.create_all(scratch.engine)
        try:
            with store.snapshot() as connection:
                return _first_difference(connection, scratch)
        finally:
            scratch.close()


def _first_difference(connection: Connection, scratch: Store) -> BadRow | None:
    writers = _writers(connection)
    gone = pruned(connection)
    for runs in _runs(connection):
        with scratch.transaction() as empty:
            bad = _compare(connection, empty, writers, runs, gone)
        if bad is not None:
            return bad
    return None


def _writers(connection: Connection) -> dict[UUID, Writer]:
    nobody = UUID(int=0)
    return {
        row.id: Writer(row.id, row.host, row.pid, row.process or nobody, row.home or nobody)
        for row in connection.execute(sa.select(models.stream))
    }


def _runs(connection: Connection) -> Iterator[list[UUID]]:
    """Yield the runs that have a row anywhere or an event, some at a time."""
    last = UUID(int=0)
    sources = [*(table.c[column] for table, column in _TABLES), models.event.c.run_id]
    while True:
        found: set[UUID] = set()
        for column in sources:
            query = sa.select(column).where(column > last).distinct().order_by(column)
            found.update(connection.execute(query.limit(_AT_ONCE)).scalars())
        runs = sorted(found)[:_AT_ONCE]
        if not runs:
            return
        yield runs
        last = runs[-1]


def _compare(
    connection: Connection,
    empty: Connection,
    writers: dict[UUID, Writer],
    runs: Sequence[UUID],
    gone: Pruned,
) -> BadRow | None:
    _replay(connection, empty, writers, runs)
    try:
        for table, column in _TABLES:
            bad = _table(connection, empty, table, column, runs, gone)
            if bad is not None:
                return bad
    finally:
        for table in (
            *(table for table, _ in _TABLES),
            models.job_revision,
            models.slot,
            models.job_change,
        ):
            empty.execute(sa.delete(table))
    return None


def _replay(
    connection: Connection, empty: Connection, writers: dict[UUID, Writer], runs: Sequence[UUID]
) -> None:
    for source in (models.event, models.event_held):
        query = sa.select(source).where(source.c.run_id.in_(runs))
        for row in _in_order(connection.execute(query).all()):
            writer = writers.get(row.stream) or Writer(row.stream, "", 0, UUID(int=0), UUID(int=0))
            record = Record(
                row.seq,
                row.id.bytes,
                row.run_id.bytes,
                row.run_seq,
                row.type,
                micros(row.at),
                row.body,
                row.hash,
            )
            with suppress(*NOT_SHOWN):  # nor was it when it came
                Projection(empty, writer).apply([record])


def _in_order(rows: Sequence[sa.Row[Any]]) -> list[sa.Row[Any]]:
    """Return events in the order of their times, but each stream's in its own.

    A stream may hold an event before another that was made a little earlier.
    """
    latest: dict[UUID, datetime] = {}
    keys: dict[tuple[UUID, int], datetime] = {}
    for row in sorted(rows, key=lambda row: (row.stream, row.seq)):
        latest[row.stream] = max(row.at, latest.get(row.stream, row.at))
        keys[row.stream, row.seq] = latest[row.stream]
    return sorted(rows, key=lambda row: (keys[row.stream, row.seq], row.stream, row.seq))


def _table(
    connection: Connection,
    empty: Connection,
    table: Table,
    column: str,
    runs: Sequence[UUID],
    gone: Pruned,
) -> BadRow | None:
    of_runs = table.c[column].in_(runs)
    stored, derived = (
        {
            key: row
            for key, row in _rows(source, table, of_runs).items()
            if _is_whole(row, column, gone)
        }
        for source in (connection, empty)
    )
    for key in sorted(stored.keys() | derived.keys()):
        there, wanted = stored.get(key), derived.get(key)
        name = " ".join(str(part) for part in key)
        if there is None or wanted is None:
            what = "is missing" if there is None else "was added, no event tells of it"
            return BadRow(table.name, name, what, str((there or wanted or {})[column]))
        for what, value in wanted.items():
            if there[what] != value:
                said = f"{what} is not what its events say"
                return BadRow(table.name, name, said, str(there[column]))
    return None


def _is_whole(row: dict[str, Any], column: str, gone: Pruned) -> bool:
    """Return whether all events of a row are there: a pruning may have cut through its time."""
    if row[column].bytes in gone.held_runs or gone.before == Pruned().before:
        return True
    moments = [value for value in row.values() if isinstance(value, datetime)]
    return not moments or min(moments) >= gone.moment + _MARGIN


def _rows(
    source: Connection, table: Table, of_runs: sa.ColumnElement[bool]
) -> dict[tuple[str, ...], dict[str, Any]]:
    key = [column.name for column in table.primary_key.columns]
    if table is models.log_line:
        key = ["stream", "seq"]
    return {
        tuple(str(row[name]) for name in key): {
            name: value for name, value in row.items() if name not in _FROM_STREAM
        }
        for row in source.execute(sa.select(table).where(of_runs)).mappings()
    }
