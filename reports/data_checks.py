"""What checks of data came to in a period: by suite, and what most often did not hold.

A check is all that one step has found by one suite. It belongs to the period in which its first
result was put on record; those of rehearsals do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from reports.period import Period
from smartops.audit import models
from smartops.audit.streaming import streamed

_LONGEST = timedelta(hours=1)
"""What one check finds is put on record within that time."""
_TABLE = models.quality_result
Key = tuple[str, UUID, UUID | None]
"""What the results of one check have in common: its suite, its run, the attempt of its step."""


@dataclass
class SuiteNumbers:
    """The checks by one suite."""

    checks: int = 0
    passed: int = 0
    warned: int = 0
    failed: int = 0
    quarantined: int = 0
    """How many rows were kept apart."""
    last: str | None = None
    """How the last check ended."""
    last_at: datetime | None = None
    last_run: UUID | None = None

    def add(self, row: sa.Row[Any]) -> None:
        """Count a check; they come in the order of time."""
        status = "failed" if row.failed else "warned" if row.warned else "passed"
        self.checks += 1
        self.passed += status == "passed"
        self.warned += status == "warned"
        self.failed += status == "failed"
        self.quarantined += int(row.quarantined)
        self.last, self.last_at, self.last_run = status, row.at, row.run_id

    @property
    def share(self) -> float | None:
        """The share of the checks in which nothing failed or warned; None without a check."""
        return self.passed / self.checks if self.checks else None


@dataclass
class Unmet:
    """An expectation that did not hold."""

    suite: str
    dataset: str
    expectation: str
    subject: str
    failed: int = 0
    warned: int = 0
    bad_rows: int = 0
    worst_share: float | None = None
    """The largest share of the rows that did not meet it, 0 to 1; None where it is about all."""
    quarantined: int = 0
    sentence: str = ""
    """What was found last."""
    last_at: datetime | None = None
    last_run: UUID | None = None

    def add(self, row: sa.Row[Any]) -> None:
        """Count a result that is a failure or a warning; they come in the order of time."""
        self.failed += row.status == "failed"
        self.warned += row.status == "warned"
        self.bad_rows += row.bad_rows
        self.quarantined += row.quarantined or 0
        if row.bad_share is not None:
            self.worst_share = max(self.worst_share or 0.0, row.bad_share / 100)
        self.sentence, self.last_at, self.last_run = row.sentence, row.at, row.run_id


@dataclass(frozen=True)
class DataChecks:
    """The checks of a period, by the suites' names, and what did not hold, the worst first."""

    suites: dict[str, SuiteNumbers]
    unmet: list[Unmet]


def numbers_of(connection: sa.Connection, period: Period) -> DataChecks:
    """Return what the checks of a period came to."""
    checks = list(_checks(connection, period))
    keys = {(row.suite, row.run_id, row.step_run_id) for row in checks}
    return DataChecks(_by_suite(checks), _unmet(connection, period, keys))


def by_suite(connection: sa.Connection, period: Period) -> dict[str, SuiteNumbers]:
    """Return the checks of a period by the suites' names."""
    return _by_suite(_checks(connection, period))


def _by_suite(checks: Iterable[sa.Row[Any]]) -> dict[str, SuiteNumbers]:
    found: dict[str, SuiteNumbers] = {}
    for row in checks:
        found.setdefault(row.suite, SuiteNumbers()).add(row)
    return dict(sorted(found.items()))


def _near(period: Period) -> sa.ColumnElement[bool]:
    """Return which results may be of the period: those of a check are not of one moment."""
    at = _TABLE.c.at
    return (at >= period.start - _LONGEST) & (at < period.end + _LONGEST)


def _checks(connection: sa.Connection, period: Period) -> Iterator[sa.Row[Any]]:
    run, columns = models.job_run, _TABLE.c
    first = sa.func.min(columns.at)
    query = (
        sa.select(
            *(own := (columns.suite, columns.run_id, columns.step_run_id)),
            first.label("at"),
            sa.func.sum(sa.case((columns.status == "failed", 1), else_=0)).label("failed"),
            sa.func.sum(sa.case((columns.status == "warned", 1), else_=0)).label("warned"),
            sa.func.coalesce(sa.func.sum(columns.quarantined), 0).label("quarantined"),
        )
        .join(run, run.c.id == columns.run_id)
        .where(_near(period), ~run.c.rehearsal)
        .group_by(*own)
        .order_by(first, *own)
    )
    for row in connection.execute(query):
        if period.start <= row.at < period.end:
            yield row


def _unmet(connection: sa.Connection, period: Period, keys: Collection[Key]) -> list[Unmet]:
    columns = _TABLE.c
    query = (
        sa.select(_TABLE)
        .where(_near(period), columns.status.in_(("failed", "warned")))
        .order_by(columns.at, columns.id)
    )
    found: dict[tuple[str, ...], Unmet] = {}
    for row in streamed(connection, query):
        if (row.suite, row.run_id, row.step_run_id) in keys:
            own = (row.suite, row.dataset, row.expectation, row.subject)
            found.setdefault(own, Unmet(*own)).add(row)
    order = sorted(found.items(), key=lambda i: (-i[1].failed, -i[1].warned, -i[1].bad_rows, i[0]))
    return [unmet for _, unmet in order]
