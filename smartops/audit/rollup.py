"""Keeps the rollups up to date, an hour at a time, by the seals: each names what is new on record.

An hour that something new belongs to, also something that comes late, is counted again as a whole;
so it does not matter how often that is done, or by whom. Hours whose rows have been pruned stay as
they were counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from smartops.audit import histogram, models
from smartops.audit.bulk_insert import bulk_insert
from smartops.audit.pruned import Pruned, pruned
from smartops.audit.report_tables import rollup_run, rollup_state, rollup_step
from smartops.audit.rollup_counting import (
    HOUR,
    SUMMED_RUN,
    SUMMED_STEP,
    RunKey,
    RunSums,
    StepKey,
    StepSums,
    count_runs,
    count_steps,
    hour_of,
)
from smartops.audit.store import Store
from smartops.audit.streaming import chunks

_MOST_PARTS, _MOST_HOURS, _MOST_IDS = 500, 48, 400
_DAY = timedelta(days=1)
_MARGIN = timedelta(days=3)
"""How long after the moment of a pruning an hour may have lost rows."""
_PAUSE_S = 60.0


@dataclass(frozen=True)
class State:
    """How far the rollups are."""

    seal: int = 0
    version: int = 0
    """0 where nothing has ever been rolled up."""


def state_of(connection: Connection) -> State:
    """Return how far the rollups are."""
    row = connection.execute(sa.select(rollup_state.c.seal, rollup_state.c.version)).first()
    return State() if row is None else State(row[0], row[1])


@dataclass(frozen=True)
class _Part:
    stream: UUID
    first: int
    last: int


def roll_up(store: Store) -> int:
    """Bring the rollups up to the last seal; return how many hours were counted.

    Another process that does the same at the same time goes first. Raises StoreUnavailable.
    """
    hours = 0
    while (done := _roll_up_some(store)) is not None:
        hours += done
    return hours


def _roll_up_some(store: Store) -> int | None:
    """Roll up the next seals; return how many hours that took, None where there is nothing."""
    with store.snapshot() as connection:
        state = state_of(connection)
        until, parts = _sealed_since(connection, state.seal)
        if until == state.seal:
            return None
        hours = sorted(hours_of(connection, parts, _kept_from(pruned(connection))))
    for some in chunks(hours, _MOST_HOURS):
        with store.snapshot() as connection:
            runs, steps = counted(connection, some)
        if not replace_hours(store, state, State(state.seal, state.version + 1), some, runs, steps):
            return None
        state = State(state.seal, state.version + 1)
    done = replace_hours(store, state, State(until, state.version + 1), [], {}, {})
    return len(hours) if done else None


def _sealed_since(connection: Connection, seal: int) -> tuple[int, list[_Part]]:
    """Return the next seals' parts, and the last of those seals."""
    part = models.seal_part
    query = (
        sa.select(part.c.seal, part.c.stream, part.c.first_seq, part.c.last_seq)
        .where(part.c.seal > seal)
        .order_by(part.c.seal)
        .limit(_MOST_PARTS)
    )
    rows = connection.execute(query).all()
    if not rows:
        return seal, []
    until = rows[-1].seal
    if len(rows) == _MOST_PARTS and rows[0].seal < until:
        until -= 1  # it may have more parts than those
        rows = [row for row in rows if row.seal <= until]
    elif len(rows) == _MOST_PARTS:
        rows = connection.execute(query.where(part.c.seal == until).limit(None)).all()
    return until, [_Part(row.stream, row.first_seq, row.last_seq) for row in rows]


def hours_not_rolled_up(connection: Connection) -> set[datetime]:
    """Return the hours that something on record belongs to that the rollups do not know yet."""
    seal, hours = state_of(connection).seal, set()
    kept_from = _kept_from(pruned(connection))
    while True:
        seal, parts = _sealed_since(connection, seal)
        if not parts:
            break
        hours |= hours_of(connection, parts, kept_from)
    stream = models.stream
    query = sa.select(stream.c.id, stream.c.sealed_seq, stream.c.last_seq).where(
        stream.c.sealed.is_(False), stream.c.sealed_seq < stream.c.last_seq
    )
    open_parts = [_Part(row[0], row[1] + 1, row[2]) for row in connection.execute(query)]
    return hours | hours_of(connection, open_parts, kept_from)


def hours_of(
    connection: Connection, parts: Iterable[_Part], kept_from: datetime | None
) -> set[datetime]:
    """Return the hours in which the runs and steps started that some events tell of."""
    event, run, step = models.event, models.job_run, models.step_run
    runs: set[UUID] = set()
    for some in chunks(parts, 50):
        ranges = [
            (event.c.stream == part.stream) & event.c.seq.between(part.first, part.last)
            for part in some
        ]
        about = sa.or_(event.c.type.like("run.%"), event.c.type.like("step.%"))
        query = sa.select(event.c.run_id).where(sa.or_(*ranges), about).distinct()
        runs.update(connection.execute(query).scalars())
    hours: set[datetime] = set()
    for ids in chunks(sorted(runs), _MOST_IDS):
        for column, starts in ((run.c.id, run.c.started_at), (step.c.run_id, step.c.started_at)):
            rows = connection.execute(sa.select(starts).where(column.in_(ids))).scalars()
            hours.update(hour_of(started) for started in rows)
    return {hour for hour in hours if kept_from is None or hour >= kept_from}


def _kept_from(gone: Pruned) -> datetime | None:
    """Return from when on all rows are there; None where nothing has ever been pruned."""
    return None if gone.before == Pruned().before else hour_of(gone.moment + _MARGIN) + HOUR


def counted(
    connection: Connection, hours: Sequence[datetime]
) -> tuple[dict[RunKey, RunSums], dict[StepKey, StepSums]]:
    """Count some hours from the rows themselves."""
    runs: dict[RunKey, RunSums] = {}
    steps: dict[StepKey, StepSums] = {}
    for start, end in stretches(hours):
        runs |= count_runs(connection, start, end)
        steps |= count_steps(connection, start, end)
    return runs, steps


def stretches(hours: Sequence[datetime]) -> Iterator[tuple[datetime, datetime]]:
    """Yield hours that follow each other as one, none longer than a day."""
    start = end = None
    for hour in sorted(hours):
        if start is not None and end is not None and hour == end and end - start < _DAY:
            end = hour + HOUR
            continue
        if start is not None and end is not None:
            yield start, end
        start, end = hour, hour + HOUR
    if start is not None and end is not None:
        yield start, end


def replace_hours(
    store: Store,
    known: State,
    new: State,
    hours: Sequence[datetime],
    runs: Mapping[RunKey, RunSums],
    steps: Mapping[StepKey, StepSums],
) -> bool:
    """Put counted hours in the place of what was there, unless another process has been there."""
    with store.transaction() as connection:
        if not _advance(connection, known, new):
            return False
        for table in (rollup_run, rollup_step):
            for some in chunks(hours, _MOST_IDS):
                connection.execute(sa.delete(table).where(table.c.hour.in_(some)))
        _insert(connection, rollup_run, [_run_row(key, sums) for key, sums in runs.items()])
        _insert(connection, rollup_step, [_step_row(key, sums) for key, sums in steps.items()])
    return True


def _advance(connection: Connection, known: State, new: State) -> bool:
    values = {"seal": new.seal, "version": new.version}
    if known.version == 0 and connection.execute(sa.select(rollup_state.c.id)).first() is None:
        connection.execute(sa.insert(rollup_state).values(id=1, **values))
        return True
    same = rollup_state.c.version == known.version
    return connection.execute(sa.update(rollup_state).where(same).values(**values)).rowcount == 1


def _insert(connection: Connection, table: sa.Table, rows: list[list[object]]) -> None:
    if rows:
        bulk_insert(connection, table.name, [column.name for column in table.columns], rows)


def _run_row(key: RunKey, sums: RunSums) -> list[object]:
    numbers = [getattr(sums, name) for name in SUMMED_RUN]
    return [*key, *numbers, histogram.write(sums.durations)]


def _step_row(key: StepKey, sums: StepSums) -> list[object]:
    numbers = [getattr(sums, name) for name in SUMMED_STEP]
    return [*key, sums.kind, *numbers, histogram.write(sums.durations)]


def rebuild(store: Store) -> int:
    """Count all hours that have rows again; return how many hours those are.

    Hours whose rows have been pruned stay as they are. Raises StoreUnavailable.
    """
    with store.snapshot() as connection:
        state = state_of(connection)
        last_seal = connection.execute(sa.select(sa.func.max(models.seal.c.number))).scalar() or 0
        begin, end = _extent(connection)
        kept_from = _kept_from(pruned(connection))
    counted_hours = 0
    if begin is not None and end is not None:
        begin = max(begin, kept_from) if kept_from else begin
        while begin <= end:
            hours = [begin + number * HOUR for number in range(24)]
            with store.snapshot() as connection:
                runs, steps = counted(connection, hours)
            new = State(state.seal, state.version + 1)
            if not replace_hours(store, state, new, hours, runs, steps):
                with store.reading() as connection:
                    state = state_of(connection)  # the recorder was there: the day once more
                continue
            state, begin, counted_hours = new, begin + _DAY, counted_hours + len(hours)
    while not replace_hours(store, state, State(last_seal, state.version + 1), [], {}, {}):
        with store.reading() as connection:
            state = state_of(connection)
    return counted_hours


def _extent(connection: Connection) -> tuple[datetime | None, datetime | None]:
    """Return the hours of the first and the last row."""
    run = models.job_run.c.started_at
    step = models.step_run.c.started_at
    first, last = connection.execute(sa.select(sa.func.min(run), sa.func.max(run))).one()
    later = connection.execute(
        sa.select(sa.func.max(step)).where(models.step_run.c.state == "completed")
    ).scalar()
    if first is None:
        return None, None
    return hour_of(first), hour_of(max(last, later) if later else last)


class Roller:
    """Rolls up at intervals, for the recorder."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = time.monotonic()

    def roll_up_if_due(self, *, now: bool = False) -> None:
        """Roll up when a minute has passed, or ``now``. Raises StoreUnavailable."""
        if now or time.monotonic() >= self._next:
            self._next = time.monotonic() + _PAUSE_S
            roll_up(self._store)
