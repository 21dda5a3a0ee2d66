"""Whether a run of a schedule may start now: overlap, what was missed, days off. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from smartops.durations import format_duration
from smartops.jobs.calendars import reason_to_skip
from smartops.jobs.scheduling import Missed
from smartops.jobs.spec import JobSpec

Kind = Literal["manual", "scheduled", "catch-up", "backfill"]


@dataclass(frozen=True)
class Candidate:
    """A run of a job that is due, or under way."""

    id: UUID
    due_at: datetime
    kind: Kind = "scheduled"
    active: bool = False
    """Whether it has begun, or a worker has taken it; waiting for a person counts as well."""
    held: bool = False
    """Whether it was held back before: then it is late because of that."""
    schedule: str = ""
    """Which of the job's schedules made it."""
    batch: str = ""
    """For a backfill: which one."""
    parallel: int = 1
    """For a backfill: how many of its runs may run at the same time."""
    timezone: str = "UTC"

    @property
    def place(self) -> tuple[datetime, UUID]:
        """Where it stands in the order of runs."""
        return self.due_at, self.id


@dataclass(frozen=True)
class Admission:
    """What becomes of a run now."""

    action: Literal["go", "wait", "skip"]
    reason: str = ""
    cancel: tuple[UUID, ...] = field(default=())
    """Runs that have to end first."""


GO = Admission("go")
MISSED = "missed: "
"""How the reason begins for which a run waits that was missed."""


def admit(job: JobSpec, run: Candidate, others: Sequence[Candidate], now: datetime) -> Admission:
    """Return what becomes of a run; ``others`` are the job's other runs that have not ended.

    A run that somebody asked for by hand always goes.
    """
    if run.kind == "manual":
        return GO
    if run.kind == "backfill":
        batch = [other for other in others if other.batch == run.batch]
        return _within_limit(run, batch, run.parallel)
    others = [other for other in others if other.kind != "backfill"]  # it has its own limit
    if any(_same_slot(o, run) and _leads(o, run) for o in others):
        return Admission("skip", "another run has the same slot")
    if reason := reason_to_skip(job.skip_on, run.due_at, run.timezone):
        return Admission("skip", reason)
    late = now - run.due_at
    if run.kind == "catch-up" or (late > job.missed.grace and not run.held):
        missed = _missed(job.missed, run, others, now)
        if missed is not None:
            return missed
    return _overlap(job, run, others)


def _same_slot(one: Candidate, other: Candidate) -> bool:
    return one.kind != "manual" and one.due_at == other.due_at and one.schedule == other.schedule


def _leads(other: Candidate, run: Candidate) -> bool:
    return other.active or other.place < run.place


def to_catch_up(missed: Missed, due: Sequence[datetime], now: datetime) -> list[datetime]:
    """Return which of the slots that had no run at all get one now, the earliest first.

    ``due`` has the slots without a run and without a later slot that had one.
    """
    wanted = sorted(at for at in due if now - at <= missed.within)
    if missed.run == "last":
        return wanted[-1:]
    return wanted if missed.run == "all" else []


def _within_limit(
    run: Candidate, others: Sequence[Candidate], limit: int, what: str = ""
) -> Admission:
    before = [other for other in others if _leads(other, run)]
    if len(before) >= limit:
        text = f"{what}{len(before)} runs are before it, and {limit} may run at once"
        return Admission("wait", text)
    return GO


def _missed(
    missed: Missed, run: Candidate, others: Sequence[Candidate], now: datetime
) -> Admission | None:
    """Return what becomes of a run that could not start when it was due; None where it may."""
    late = now - run.due_at
    text = f"it could not start when it was due, {_in_words(late)} ago"
    if missed.run == "skip":
        return Admission("skip", text)
    if late > missed.within:
        limit = format_duration(missed.within)
        return Admission("skip", f"{text}, which is longer than {limit}")
    waiting = [o for o in others if o.kind != "manual" and not o.active and o.due_at <= now]
    if missed.run == "all":
        active = [other for other in others if other.active]
        ahead = [other for other in waiting if other.place < run.place]
        return _within_limit(run, [*active, *ahead], missed.parallel, MISSED)
    if any(o.place > run.place and o.schedule == run.schedule for o in waiting):
        return Admission("skip", f"{text}; a later one runs in its place")
    return None


def _overlap(job: JobSpec, run: Candidate, others: Sequence[Candidate]) -> Admission:
    active = [other for other in others if other.active]
    ahead = [o for o in others if not o.active and o.kind != "manual" and o.place < run.place]
    if job.overlap == "allow" or not (active or ahead):
        return GO
    under_way = (
        f"run {str(active[0].id)[:8]} is under way" if active else "an earlier one comes first"
    )
    if job.overlap == "skip" and active:
        return Admission("skip", under_way)
    if job.overlap == "queue_one" and active and ahead:
        return Admission("skip", f"{under_way}, and another run waits already")
    if job.overlap == "cancel_running":
        return Admission("wait", f"{under_way} and is cancelled", tuple(o.id for o in active))
    return Admission("wait", under_way)


def _in_words(length: timedelta) -> str:
    return format_duration(timedelta(seconds=round(length.total_seconds())))
