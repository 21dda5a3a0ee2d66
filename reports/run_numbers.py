"""What the runs of a period come to, job by job: counts, durations, time lost, MTTR and MTBF.

One pass over the runs of the period, in the order of the index; of each a few bytes are kept.
Rehearsals do not count. A run belongs to the period in which it started.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from reports.period import Period
from smartops.audit import models
from smartops.audit.rollup_counting import RUN_FAILED
from smartops.audit.streaming import streamed

BAD = RUN_FAILED
"""Ends of a run that are failures; a cancelled run is neither a failure nor a success."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_S = 1_000_000


@dataclass
class JobNumbers:
    """The runs of one job, or of all."""

    states: Counter[str] = field(default_factory=Counter)
    durations_us: array[int] = field(default_factory=lambda: array("q"))
    """Of the runs that completed; in order, once all are counted."""
    ends_us: array[int] = field(default_factory=lambda: array("q"))
    """When its runs ended, well or not; negative where not."""
    lost_us: int = 0
    down_us: int = 0
    repairs_us: array[int] = field(default_factory=lambda: array("q"))
    """How long each failure lasted that ended in the period, up to the next success."""
    failures: int = 0
    """How often it began to fail."""

    def add(self, state: str, started: datetime, ended: datetime | None) -> None:
        """Count a run."""
        self.states[state] += 1
        if ended is None:
            return
        took = (ended - started) // _MICROSECOND
        if state == "completed":
            self.durations_us.append(took)
            self.ends_us.append(_us(ended))
        elif state in BAD:
            self.lost_us += took
            self.ends_us.append(-_us(ended))

    @property
    def runs(self) -> int:
        """How many began."""
        return self.states.total()

    @property
    def bad(self) -> int:
        """How many failed, crashed, or wait for a decision."""
        return sum(self.states[state] for state in BAD)

    @property
    def success(self) -> float | None:
        """The share that completed of those that ended well or badly; None where none has."""
        ended = self.states["completed"] + self.bad
        return self.states["completed"] / ended if ended else None

    def quantile_s(self, share: float) -> float | None:
        """Return a quantile of the durations of completed runs, in seconds."""
        return quantile(self.durations_us, share)

    @property
    def lost_s(self) -> float:
        """The time that went into runs that failed, in seconds."""
        return self.lost_us / _S

    @property
    def mttr_s(self) -> float | None:
        """The mean time from a failure to the next success, of failures that ended; seconds."""
        return sum(self.repairs_us) / len(self.repairs_us) / _S if self.repairs_us else None

    def mtbf_s(self, period: Period) -> float | None:
        """Return the mean time in order between two failures, in seconds; None without one."""
        if not self.failures:
            return None
        return (period.seconds - self.down_us / _S) / self.failures


def quantile(ordered: Sequence[int] | array[int], share: float) -> float | None:
    """Return a quantile of microseconds, which are in order, in seconds.

    Between two values it goes by the way to the next.
    """
    if not ordered:
        return None
    place = (len(ordered) - 1) * share
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return (ordered[low] + (ordered[high] - ordered[low]) * (place - low)) / _S


def run_rows(
    connection: sa.Connection, period: Period, job: str | None = None
) -> Iterator[tuple[str, str, datetime, datetime | None]]:
    """Yield job, state, start and end of the runs of a period."""
    run = models.job_run
    query = sa.select(run.c.job, run.c.state, run.c.started_at, run.c.ended_at).where(
        run.c.started_at >= period.start, run.c.started_at < period.end, ~run.c.rehearsal
    )
    if job is not None:
        query = query.where(run.c.job == job)
    for row in streamed(connection, query):
        yield row[0], row[1], row[2], row[3]


def numbers_of(
    connection: sa.Connection, period: Period, job: str | None = None
) -> dict[str, JobNumbers]:
    """Return what the runs of each job come to, in the order of the jobs' names."""
    found: dict[str, JobNumbers] = defaultdict(JobNumbers)
    for name, state, started, ended in run_rows(connection, period, job):
        found[name].add(state, started, ended)
    for name, numbers in found.items():
        _episodes(numbers, period, _failing_since(connection, name, period.start))
        numbers.durations_us = array("q", sorted(numbers.durations_us))
    return dict(sorted(found.items()))


def together(all_of_them: Iterable[JobNumbers]) -> JobNumbers:
    """Return the numbers of all jobs as those of one."""
    whole = JobNumbers()
    for numbers in all_of_them:
        whole.states.update(numbers.states)
        whole.durations_us.extend(numbers.durations_us)
        whole.lost_us += numbers.lost_us
        whole.down_us += numbers.down_us
        whole.repairs_us.extend(numbers.repairs_us)
        whole.failures += numbers.failures
    whole.durations_us = array("q", sorted(whole.durations_us))
    return whole


def _episodes(numbers: JobNumbers, period: Period, since: datetime | None) -> None:
    """Find the times in which a job failed: from a failure's end to the next success's end."""
    first, last = (_us(period.start), _us(period.end))
    failing = None if since is None else _us(since)
    for end in sorted(numbers.ends_us, key=abs):
        if end < 0 and failing is None:
            failing = -end
            numbers.failures += 1
        elif end > 0 and failing is not None:
            numbers.repairs_us.append(end - failing)
            numbers.down_us += max(0, min(end, last) - max(failing, first))
            failing = None
    if failing is not None:
        numbers.down_us += max(0, last - max(failing, first))


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _failing_since(connection: sa.Connection, job: str, moment: datetime) -> datetime | None:
    """Return since when a job was failing at a moment; None where its last run was well."""
    run = models.job_run
    known = (run.c.job == job) & (run.c.started_at < moment) & ~run.c.rehearsal
    order = (run.c.started_at.desc(), run.c.id.desc())
    ended = run.c.state.in_(("completed", *BAD)) & run.c.ended_at.is_not(None)
    last: Any = connection.execute(
        sa.select(run.c.state).where(known, ended).order_by(*order).limit(1)
    ).scalar()
    if last not in BAD:
        return None
    good = sa.select(run.c.started_at).where(known, run.c.state == "completed")
    well = connection.execute(good.order_by(*order).limit(1)).scalar()
    bad = sa.select(run.c.ended_at).where(known, run.c.state.in_(BAD), run.c.ended_at.is_not(None))
    if well is not None:
        bad = bad.where(run.c.started_at > well)
    found: datetime | None = connection.execute(
        bad.order_by(run.c.started_at, run.c.id).limit(1)
    ).scalar()
    return found
