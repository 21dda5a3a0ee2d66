"""What the steps of a period come to: which fail, with what, and which pass at a second try."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from reports.period import Period
from smartops.audit import histogram, models
from smartops.audit.rollup_counting import STEP_FAILED, StepSums
from smartops.audit.streaming import streamed
from smartops.fingerprint import fingerprint


@dataclass
class Failure:
    """Failed attempts of one step that say the same."""

    job: str
    step: str
    kind: str
    fingerprint: str
    message: str
    """The last one's, as it was."""
    error_class: str | None
    first_at: datetime
    last_at: datetime
    last_run: UUID
    attempts: int = 0
    lost_us: int = 0
    _runs: set[UUID] = field(default_factory=set)

    @property
    def runs(self) -> int:
        """How many runs it happened in."""
        return len(self._runs)

    @property
    def lost_s(self) -> float:
        """How long the failed attempts took, in seconds."""
        return self.lost_us / 1_000_000

    def add(self, row: sa.Row[Any]) -> None:
        """Count an attempt."""
        self.attempts += 1
        self._runs.add(row.run_id)
        if row.ended_at is not None:
            self.lost_us += round((row.ended_at - row.started_at).total_seconds() * 1_000_000)
        self.first_at = min(self.first_at, row.started_at)
        if (row.started_at, row.run_id) >= (self.last_at, self.last_run):
            self.last_at, self.last_run = row.started_at, row.run_id
            self.message = (row.error or "").strip().partition("\n")[0][:500]


def failures(connection: sa.Connection, period: Period) -> list[Failure]:
    """Return what failed in the steps of a period, the most frequent first."""
    found: dict[tuple[str, str, str], Failure] = {}
    for row in _failed(connection, period):
        step = row.step.partition("[")[0]  # the items of a list fail together
        same = fingerprint(row.error_class, row.error)
        key = (row.job, step, same)
        if key not in found:
            found[key] = Failure(
                row.job, step, row.kind, same, "", row.error_class, row.started_at,
                row.started_at, row.run_id,
            )  # fmt: skip
        found[key].add(row)
    return sorted(found.values(), key=lambda f: (-f.attempts, f.job, f.step, f.fingerprint))


def _failed(connection: sa.Connection, period: Period) -> Iterator[sa.Row[Any]]:
    step, run = models.step_run, models.job_run
    query = (
        sa.select(
            run.c.job,
            *(step.c[name] for name in ("step", "kind", "run_id", "error_class", "error")),
            step.c.started_at,
            step.c.ended_at,
        )
        .join(run, run.c.id == step.c.run_id)
        .where(
            step.c.state.in_(STEP_FAILED),
            step.c.started_at >= period.start,
            step.c.started_at < period.end,
            ~run.c.rehearsal,
        )
    )
    return streamed(connection, query)


@dataclass(frozen=True)
class Flaky:
    """A step that passed after it had failed in the same run."""

    job: str
    step: str
    passed_on_retry: int
    passed: int
    retried_s: float
    """Time that its failed attempts took in runs that completed all the same."""
    p95_s: float | None
    """Of the attempts that passed; from a histogram."""

    @property
    def share(self) -> float:
        """The share of its passes that took more than one attempt."""
        return self.passed_on_retry / self.passed if self.passed else 0.0


def flaky(steps: Mapping[tuple[str, str], StepSums]) -> list[Flaky]:
    """Return the steps that passed on retry, the most frequent first."""
    found = [
        Flaky(
            job,
            step,
            sums.passed_on_retry,
            sums.completed,
            sums.retried_us / 1_000_000,
            histogram.quantile_s(sums.durations, 0.95),
        )
        for (job, step), sums in steps.items()
        if sums.passed_on_retry
    ]
    return sorted(found, key=lambda each: (-each.passed_on_retry, each.job, each.step))


def retried_s(steps: Mapping[tuple[str, str], StepSums]) -> dict[str, float]:
    """Return by job how long attempts took that failed in runs that completed, in seconds."""
    found: dict[str, float] = {}
    for (job, _), sums in steps.items():
        found[job] = found.get(job, 0.0) + sums.retried_us / 1_000_000
    return found
