"""Counts the runs and the step attempts of some hours, for the rollups and beside them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import get_args

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from smartops.audit import histogram, models
from smartops.audit.events import StepState
from smartops.audit.streaming import streamed

HOUR = timedelta(hours=1)
_MICROSECOND = timedelta(microseconds=1)
STEP_FAILED = ("failed", "crashed", "unknown_outcome")
RUN_FAILED = ("failed", "crashed", "needs_decision")
RunKey = tuple[datetime, str]
StepKey = tuple[datetime, str, str]


@dataclass
class RunSums:
    """The runs of a job in an hour, or over several."""

    completed: int = 0
    failed: int = 0
    crashed: int = 0
    needs_decision: int = 0
    cancelled: int = 0
    open: int = 0
    busy_us: int = 0
    lost_us: int = 0
    durations: Counter[int] = field(default_factory=Counter)
    """Of those that completed, in the buckets of :mod:`smartops.audit.histogram`."""

    @property
    def runs(self) -> int:
        """How many there were."""
        return self.completed + self.bad + self.cancelled + self.open

    @property
    def bad(self) -> int:
        """How many ended badly."""
        return self.failed + self.crashed + self.needs_decision

    def count(self, state: str, took_us: int) -> None:
        """Add a run."""
        name = state if state in {"completed", "cancelled", *RUN_FAILED} else "open"
        setattr(self, name, getattr(self, name) + 1)
        self.busy_us += took_us
        if state == "completed":
            self.durations[histogram.bucket(took_us)] += 1
        elif state in RUN_FAILED:
            self.lost_us += took_us


@dataclass
class StepSums:
    """The attempts of a step in an hour, or over several."""

    kind: str = ""
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    other: int = 0
    passed_on_retry: int = 0
    busy_us: int = 0
    retried_us: int = 0
    """Time that failed attempts took in runs that completed all the same."""
    durations: Counter[int] = field(default_factory=Counter)

    def count(self, state: str, attempt: int, took_us: int, *, run_state: str) -> None:
        """Add an attempt."""
        if state == "skipped":
            self.skipped += 1
            return
        self.busy_us += took_us
        if state == "completed":
            self.completed += 1
            self.passed_on_retry += attempt > 1
            self.durations[histogram.bucket(took_us)] += 1
        elif state in STEP_FAILED:
            self.failed += 1
            self.retried_us += took_us if run_state == "completed" else 0
        else:
            self.other += 1


SUMMED_RUN = (
    *("completed", "failed", "crashed", "needs_decision", "cancelled", "open"),
    *("busy_us", "lost_us"),
)
SUMMED_STEP = (
    *("completed", "failed", "skipped", "other", "passed_on_retry"),
    *("busy_us", "retried_us"),
)


def hour_of(moment: datetime) -> datetime:
    """Return the hour that a moment belongs to, in UTC."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def count_runs(connection: Connection, start: datetime, end: datetime) -> dict[RunKey, RunSums]:
    """Return what the runs that started from one moment up to another come to."""
    run = models.job_run
    query = sa.select(run.c.job, run.c.state, run.c.started_at, run.c.ended_at).where(
        run.c.started_at >= start, run.c.started_at < end, ~run.c.rehearsal
    )
    found: dict[RunKey, RunSums] = {}
    for job, state, started, ended in streamed(connection, query):
        key = (hour_of(started), job)
        found.setdefault(key, RunSums()).count(state, _took_us(started, ended))
    return found


def count_steps(connection: Connection, start: datetime, end: datetime) -> dict[StepKey, StepSums]:
    """Return what the step attempts that started from one moment up to another come to."""
    step, run = models.step_run, models.job_run
    query = (
        sa.select(
            run.c.job,
            run.c.state.label("run_state"),
            *(step.c[name] for name in ("step", "kind", "state", "attempt")),
            step.c.started_at,
            step.c.ended_at,
        )
        .join(run, run.c.id == step.c.run_id)
        .where(
            step.c.state.in_(get_args(StepState)),  # so that it is a range of an index
            step.c.started_at >= start,
            step.c.started_at < end,
            ~run.c.rehearsal,
        )
    )
    found: dict[StepKey, StepSums] = {}
    for job, run_state, name, kind, state, attempt, started, ended in streamed(connection, query):
        key = (hour_of(started), job, name.partition("[")[0])
        sums = found.setdefault(key, StepSums(kind))
        sums.count(state, attempt, _took_us(started, ended), run_state=run_state)
    return found


def _took_us(started: datetime, ended: datetime | None) -> int:
    return 0 if ended is None else max((ended - started) // _MICROSECOND, 0)
