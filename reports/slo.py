"""The SLO report: what is promised of jobs, how much of the error budget is spent, how fast."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from reports import run_numbers
from reports.catalogue import Asked, ReportKind
from reports.document import Bars, Column, Document, Figure, Section, Series, table_of
from reports.objectives import Objective, load_all
from reports.period import Period
from reports.wording import counted
from smartops.audit import models
from smartops.audit.rollup_counting import RUN_FAILED
from smartops.audit.store import Store
from smartops.settings import get_settings


@dataclass(frozen=True)
class Kept:
    """How far a promise was kept over some time: events that were well, or seconds."""

    good: float
    bad: float

    @property
    def share(self) -> float | None:
        """The share that was well; None where there was nothing."""
        return self.good / (self.good + self.bad) if self.good + self.bad else None

    def spent(self, target: float) -> float:
        """Return how much of the error budget is spent: 1 is all of it."""
        share = self.share
        return 0.0 if share is None else (1 - share) / (1 - target)


@dataclass(frozen=True)
class Line:
    """One promise, over its window and over the report's period."""

    job: str
    name: str
    promise: str
    target: float
    actual: float | None
    spent: float
    """The share of the window's error budget that is spent."""
    burn: float
    """How fast it was spent in the period: 1 spends exactly all of it."""
    state: str
    window_days: float


_COLUMNS = (
    Column("job", "Job"),
    Column("name", "Name"),
    Column("promise", "Objective"),
    Column("target", "Target", "share"),
    Column("actual", "Actual", "share"),
    Column("spent", "Budget spent", "share"),
    Column("burn", "Burn rate", "number"),
    Column("state", "State", "state"),
    Column("window_days", "Days", "number"),
)


def lines(store: Store, period: Period) -> list[Line]:
    """Return each promise and how it was kept. Raises StoreUnavailable, BadInput."""
    found = []
    with store.snapshot() as connection:
        for of_job in load_all(get_settings().deployments / "slo"):
            window = Period(period.end - of_job.window, period.end, period.zone)
            for promise in of_job.objectives:
                over = kept(connection, of_job.job, promise, window)
                lately = kept(connection, of_job.job, promise, period)
                spent = over.spent(promise.target)
                state = "met" if spent <= 1 else "missed"
                days = of_job.window / timedelta(days=1)
                found.append(
                    Line(
                        of_job.job,
                        promise.called,
                        promise.text,
                        promise.target,
                        over.share,
                        spent,
                        lately.spent(promise.target),
                        state if over.share is not None else "no runs",
                        days,
                    )
                )
    return found


def kept(
    connection: sa.Connection,
    job: str,
    promise: Objective,
    period: Period,
    since: datetime | None = None,
) -> Kept:
    """Return how far a promise was kept over a period.

    ``since`` is from when a job is to be fresh that is not on record at all; None: from ever.
    """
    if promise.kind == "freshness":
        return _freshness(connection, job, promise.limit or timedelta(), period, since)
    good = bad = 0
    for _, state, started, ended in run_numbers.run_rows(connection, period, job):
        if promise.limit is None:
            good += state == "completed"
            bad += state in RUN_FAILED
        elif state == "completed" and ended is not None:
            well = ended - started <= promise.limit
            good, bad = good + well, bad + (not well)
    return Kept(good, bad)


def _freshness(
    connection: sa.Connection, job: str, limit: timedelta, period: Period, since: datetime | None
) -> Kept:
    run = models.job_run
    well = (run.c.job == job) & (run.c.state == "completed") & ~run.c.rehearsal
    before = sa.select(sa.func.max(run.c.ended_at)).where(
        well, run.c.ended_at < period.start, run.c.started_at < period.start
    )
    # Before a job was known at all it could not be stale.
    known = sa.select(sa.func.min(models.job_revision.c.first_seen_at)).where(
        models.job_revision.c.job == job, models.job_revision.c.first_seen_at < period.end
    )
    last: datetime | None = connection.execute(before).scalar()
    last = last or connection.execute(known).scalar() or since
    ends = sa.select(run.c.ended_at).where(
        well, run.c.ended_at >= period.start, run.c.ended_at < period.end
    )
    stale, at = timedelta(), period.start
    for end in [*sorted(connection.execute(ends).scalars()), period.end]:
        stale_from = at if last is None else max(at, last + limit)
        stale += max(end - stale_from, timedelta())
        last, at = end, end
    total = period.end - period.start
    return Kept((total - stale).total_seconds(), stale.total_seconds())


def build(store: Store, period: Period, _asked: Asked) -> Document:
    """Return the report."""
    found = lines(store, period)
    missed = [line for line in found if line.state == "missed"]
    names = tuple(f"{line.job}: {line.promise}" for line in found)
    spent = Series("budget spent", tuple(round(line.spent * 100, 3) for line in found), "warn")
    says = "; ".join(
        f"{name}: {line.spent:.0%} spent" for name, line in zip(names, found, strict=True)
    )
    chart = [Bars("spent", "Error budget spent", says, names, (spent,), "%", lying=True)]
    note = (
        "Budget spent: the share of what may go wrong over the window that has gone wrong. Burn "
        "rate: how fast it was spent in this period; at 1 a window's budget lasts for a window."
    )
    empty = "Nothing is promised: write deployments/slo/JOB.yaml."
    table = table_of("objectives", "Objectives", _COLUMNS, found, note=note, empty=empty)
    said = [f"{counted(len(missed), 'objective')} of {len(found)} missed."]
    said += [f"{line.job}: {line.promise}: {line.spent:.0%} of the budget." for line in missed]
    return Document(
        REPORT.name,
        REPORT.title,
        period,
        tuple(said),
        (
            Figure("objectives", "Objectives", len(found)),
            Figure("missed", "Missed", len(missed), better="less"),
            Figure(
                "burn", "Highest burn rate", max((x.burn for x in found), default=0.0), "number"
            ),
        ),
        (Section("Objectives", (*(chart if found else []), table)),),
    )


REPORT = ReportKind(
    "slo",
    "SLO report",
    "Objectives per job (slo/*.yaml): success, latency, freshness; error budget and burn rate.",
    build,
)
