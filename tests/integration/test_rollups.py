"""Rollups: what each hour comes to, kept up to date by the seals, on both databases."""

from __future__ import annotations

import random
import statistics
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from uuid6 import uuid7

from benchmarks.year import Plant, load
from reports import run_numbers, step_numbers
from reports.period import Period
from smartops.audit import histogram, rollup
from smartops.audit.events import Event
from smartops.audit.journal import Journal
from smartops.audit.keys import signing_key
from smartops.audit.report_tables import rollup_run, rollup_step
from smartops.audit.rollup_reading import Rollups
from smartops.audit.seal import seal
from smartops.audit.shipping import ship_file
from smartops.audit.store import Store
from smartops.settings import get_settings

NOON = datetime(2026, 3, 27, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
Found = dict[tuple[str, str], tuple[int, int, int]]


@pytest.fixture
def journal(home: Path) -> Iterator[Journal]:
    """The journal of a worker."""
    opened = Journal(get_settings().journal_dir)
    yield opened
    opened.close()


def a_step(run: UUID, at: datetime, attempt: int, state: str, took_s: float) -> list[Event]:
    step = str(uuid7())
    what: dict[str, Any] = {"step": "read", "kind": "modbus.read", "effect": "read"}
    begun = {"step_run_id": step, **what, "attempt": attempt, "inputs": {}, "at": at.isoformat()}
    end = (at + timedelta(seconds=took_s)).isoformat()
    ended = {"step_run_id": step, "state": state, "at": end}
    return [Event("step.started", run, begun), Event("step.ended", run, ended)]


def a_run(at: datetime, *, again: bool = False) -> list[Event]:
    """Return the events of a run of one step, which passes at once, or at a second attempt."""
    run = uuid7()
    begun = {"job": "j", "flow": "f", "kind": "job", "params": {}, "at": at.isoformat()}
    first = a_step(run, at, 1, "failed", 2.0) if again else []
    last = a_step(run, at + timedelta(seconds=3), 2 if again else 1, "completed", 1.0)
    end = {"state": "completed", "message": "", "at": (at + timedelta(seconds=4)).isoformat()}
    return [Event("run.started", run, begun), *first, *last, Event("run.ended", run, end)]


def ship(store: Store, journal: Journal, *events: Event, sealed: bool = True) -> None:
    journal.append(*events)
    ship_file(store, journal.path)
    while sealed and seal(store, signing_key(get_settings().keys_dir)) is not None:
        pass


def read(store: Store, start: datetime, end: datetime) -> Found:
    with store.snapshot() as connection:
        found = Rollups(connection).steps(start, end)
    return {key: (s.completed, s.failed, s.passed_on_retry) for key, s in found.items()}


def rows(store: Store, table: sa.Table) -> list[tuple[Any, ...]]:
    with store.reading() as connection:
        query = sa.select(table).order_by(*table.primary_key.columns)
        return [tuple(row) for row in connection.execute(query)]


def test_what_is_new_is_rolled_up_and_what_comes_late_too(store: Store, journal: Journal) -> None:
    """An hour that gets a late run is counted again as a whole; nothing new costs nothing."""
    ship(store, journal, *a_run(NOON), *a_run(NOON + 5 * HOUR, again=True))
    assert rollup.roll_up(store) == 2
    assert rollup.roll_up(store) == 0
    assert [(row[0], row[2]) for row in rows(store, rollup_run)] == [
        (NOON, 1),
        (NOON + 5 * HOUR, 1),
    ]
    ship(store, journal, *a_run(NOON + timedelta(minutes=40), again=True))
    assert rollup.roll_up(store) == 1
    (first, later) = rows(store, rollup_step)
    assert first[:9] == (NOON, "j", "read", "modbus.read", 2, 1, 0, 0, 1)
    assert first[10] == 2_000_000
    assert later[8] == 1


def test_a_run_that_ends_later_changes_the_hour_of_its_start(
    store: Store, journal: Journal
) -> None:
    """Rolled up while it runs, and again when it has ended."""
    *begin, end = a_run(NOON)
    ship(store, journal, *begin)
    rollup.roll_up(store)
    assert rows(store, rollup_run)[0][2:8] == (0, 0, 0, 0, 0, 1)
    ship(store, journal, end)
    rollup.roll_up(store)
    assert rows(store, rollup_run)[0][2:8] == (1, 0, 0, 0, 0, 0)


def test_reading_is_right_also_before_it_is_rolled_up(store: Store, journal: Journal) -> None:
    """Never rolled up; rolled up in part; sealed or not: what is read is what is there."""
    ship(store, journal, *a_run(NOON), sealed=False)
    whole = (NOON - HOUR, NOON + 9 * HOUR)
    assert read(store, *whole) == {("j", "read"): (1, 0, 0)}
    ship(store, journal, *a_run(NOON + HOUR))
    rollup.roll_up(store)
    ship(store, journal, *a_run(NOON + 2 * HOUR, again=True))
    ship(store, journal, *a_run(NOON + 3 * HOUR), sealed=False)
    assert read(store, *whole) == {("j", "read"): (4, 1, 1)}
    with store.transaction() as connection:  # so the rolled up part comes from the rollups
        connection.execute(sa.update(rollup_step).values(completed=rollup_step.c.completed + 10))
    assert read(store, *whole) == {("j", "read"): (24, 1, 1)}


def test_a_time_may_begin_and_end_within_an_hour(store: Store) -> None:
    """Cut hours are counted from the rows: parts add up to the whole."""
    load(store, Plant(seed=5, start=NOON, length=timedelta(hours=30), faults=9))
    rollup.rebuild(store)
    cut = NOON + timedelta(hours=7, minutes=13)
    end = NOON + timedelta(hours=29, minutes=59)
    sums: Counter[tuple[str, str]] = Counter()
    for part in (read(store, NOON, cut), read(store, cut, end)):
        sums.update({key: counts[0] for key, counts in part.items()})
    assert sums == {key: counts[0] for key, counts in read(store, NOON, end).items()}
    assert sum(sums.values()) > 2000


def test_rebuilding_gives_what_was_kept_up_to_date(store: Store, journal: Journal) -> None:
    """Also after the rollups were lost or altered, and as often as one likes."""
    for number in range(6):
        ship(store, journal, *a_run(NOON + number * 7 * HOUR, again=number % 2 == 0))
        rollup.roll_up(store)
    kept = (rows(store, rollup_run), rows(store, rollup_step))
    with store.transaction() as connection:
        connection.execute(sa.delete(rollup_run).where(rollup_run.c.hour > NOON))
        connection.execute(sa.update(rollup_step).values(completed=99))
    for _ in range(2):
        rollup.rebuild(store)
        assert (rows(store, rollup_run), rows(store, rollup_step)) == kept
    assert rollup.roll_up(store) == 0


def test_a_query_of_many_rows_is_streamed_by_itself(store: Store) -> None:
    """The queries that come after it on the same connection are as they were before."""
    day = Period(NOON - timedelta(days=1), NOON)
    with store.snapshot() as connection:
        run_numbers.numbers_of(connection, day)
        step_numbers.failures(connection, day)
        Rollups(connection).steps(day.start, day.end)
        assert "yield_per" not in connection.get_execution_options()


def test_two_that_roll_up_at_once_do_not_mix(store: Store, journal: Journal) -> None:
    """Who finds that another has been there writes nothing."""
    ship(store, journal, *a_run(NOON))
    with store.snapshot() as connection:
        state = rollup.state_of(connection)
        runs, steps = rollup.counted(connection, [NOON])
    ship(store, journal, *a_run(NOON + timedelta(minutes=1)))
    rollup.roll_up(store)
    new = rollup.State(1, state.version + 1)
    assert not rollup.replace_hours(store, state, new, [NOON], runs, steps)
    assert rows(store, rollup_run)[0][2] == 2


@given(st.lists(st.integers(min_value=1000, max_value=10**13), min_size=1, max_size=200))
def test_quantiles_from_buckets_are_near(values: list[int]) -> None:
    """Within the error that is promised, and the same after they were written down."""
    written: Counter[int] = Counter()
    histogram.add_text(written, histogram.write(histogram.of(values)))
    assert written == histogram.of(values)
    ordered = sorted(values)
    for share in (0.0, 0.5, 0.95, 1.0):
        found = histogram.quantile_s(written, share)
        assert found is not None
        place = (len(ordered) - 1) * share
        low, high = ordered[int(place)], ordered[min(int(place) + 1, len(ordered) - 1)]
        true = (low + (high - low) * (place - int(place))) / 1e6
        assert found == pytest.approx(true, rel=histogram.ERROR * 1.05)


def test_a_histogram_of_nothing_has_no_quantile() -> None:
    """And one of usual durations is as good as it says."""
    assert histogram.quantile_s(Counter(), 0.5) is None
    rng = random.Random(1)
    values = [int(rng.lognormvariate(13, 1)) for _ in range(20_000)]
    found = histogram.quantile_s(histogram.of(values), 0.5)
    assert found == pytest.approx(statistics.median(values) / 1e6, rel=histogram.ERROR)
