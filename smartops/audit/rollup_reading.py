"""Reads what runs and steps came to over any time, from the rollups.

Hours that they do not know yet, and those in which the time begins or ends, are counted from the
rows themselves: what is read is right at every moment, and reading needs no right to write.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from smartops.audit import histogram
from smartops.audit.report_tables import rollup_run, rollup_step
from smartops.audit.rollup import hours_not_rolled_up, state_of, stretches
from smartops.audit.rollup_counting import (
    HOUR,
    SUMMED_RUN,
    SUMMED_STEP,
    RunSums,
    StepSums,
    count_runs,
    count_steps,
    hour_of,
)
from smartops.audit.streaming import streamed


class Rollups:
    """What a connection sees, best in one snapshot."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._none = state_of(connection).version == 0
        self._not_yet = set() if self._none else hours_not_rolled_up(connection)

    def steps(self, start: datetime, end: datetime) -> dict[tuple[str, str], StepSums]:
        """Return the attempts of each step of each job, from a moment up to another."""
        found: dict[tuple[str, str], StepSums] = {}
        first, last, counted = self._parts(start, end)
        for row in self._step_rows(first, last):
            sums = found.setdefault((row.job, row.step), StepSums(row.kind))
            _add_row(sums, row)
        for begin, until in counted:
            for (_, job, step), more in count_steps(self._connection, begin, until).items():
                _add(found.setdefault((job, step), StepSums(more.kind)), more)
        return dict(sorted(found.items()))

    def runs(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, RunSums]]:
        """Yield the runs of all jobs by the hour, in no order, without their durations.

        A cut hour goes by its beginning, and an hour may come in several parts.
        """
        first, last, counted = self._parts(start, end)
        table = rollup_run
        sums = [sa.func.sum(table.c[name]) for name in SUMMED_RUN]
        query = sa.select(table.c.hour, *sums).where(table.c.hour >= first, table.c.hour < last)
        for hour, *numbers in self._connection.execute(query.group_by(table.c.hour)):
            if hour not in self._not_yet:
                sums_of = RunSums()
                for name, number in zip(SUMMED_RUN, numbers, strict=True):
                    setattr(sums_of, name, int(number))
                yield hour, sums_of
        for begin, until in counted:
            for (hour, _), more in count_runs(self._connection, begin, until).items():
                yield hour, more

    def _parts(
        self, start: datetime, end: datetime
    ) -> tuple[datetime, datetime, list[tuple[datetime, datetime]]]:
        """Return the whole hours to be read from the rollups, and what is to be counted."""
        first = start if hour_of(start) == start else hour_of(start) + HOUR
        last = hour_of(end)
        if self._none or first >= last:
            return end, end, [(start, end)]
        counted = [(start, first), (last, end)]
        counted += stretches([hour for hour in self._not_yet if first <= hour < last])
        return first, last, [(begin, until) for begin, until in counted if begin < until]

    def _step_rows(self, first: datetime, last: datetime) -> Iterator[sa.Row[Any]]:
        table = rollup_step
        query = sa.select(table).where(table.c.hour >= first, table.c.hour < last)
        for row in streamed(self._connection, query):
            if row.hour not in self._not_yet:
                yield row


def _add_row(sums: StepSums, row: sa.Row[Any]) -> None:
    for name in SUMMED_STEP:
        setattr(sums, name, getattr(sums, name) + getattr(row, name))
    histogram.add_text(sums.durations, row.histogram)


def _add(sums: StepSums, more: StepSums) -> None:
    for name in SUMMED_STEP:
        setattr(sums, name, getattr(sums, name) + getattr(more, name))
    sums.durations.update(more.durations)
