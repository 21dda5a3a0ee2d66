"""What did not go as planned: slots without a run, effects in doubt, waits for locks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from reports.period import Period
from smartops.audit import models
from smartops.audit.report_tables import lock_wait
from smartops.audit.streaming import chunks
from smartops.fingerprint import pattern


@dataclass
class LostSlots:
    """Times at which a schedule should have made a run and did not, for one reason."""

    job: str
    schedule: str
    outcome: str
    reason: str
    count: int
    first_due: datetime
    last_due: datetime


def lost_slots(connection: sa.Connection, period: Period) -> list[LostSlots]:
    """Return the slots that were missed or skipped, by job and reason, missed ones first."""
    slot = models.slot
    query = (
        sa.select(slot.c.job, slot.c.schedule, slot.c.outcome, slot.c.reason, slot.c.due_at)
        .where(
            slot.c.outcome.in_(("missed", "skipped")),
            slot.c.due_at >= period.start,
            slot.c.due_at < period.end,
        )
        .order_by(slot.c.due_at, slot.c.id)
    )
    found: dict[tuple[str, ...], LostSlots] = {}
    for job, schedule, outcome, reason, due in connection.execute(query):
        key = (outcome, job, schedule, pattern(reason))
        known = found.setdefault(key, LostSlots(job, schedule, outcome, reason, 0, due, due))
        known.count += 1
        known.last_due = due
    return [found[key] for key in sorted(found, key=lambda key: (key[0], -found[key].count, key))]


def slot_counts(connection: sa.Connection, period: Period) -> Mapping[str, int]:
    """Return how many slots came to what."""
    slot = models.slot
    query = (
        sa.select(slot.c.outcome, sa.func.count())
        .where(slot.c.due_at >= period.start, slot.c.due_at < period.end)
        .group_by(slot.c.outcome)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


@dataclass(frozen=True)
class Doubt:
    """A step whose effect may or may not have happened, and what a person found out."""

    job: str
    run_id: UUID
    step: str
    at: datetime
    error: str
    verdict: str
    """``open`` as long as nobody has said."""
    person: str
    decided_at: datetime | None


def doubts(connection: sa.Connection, period: Period) -> list[Doubt]:
    """Return the effects in doubt of a period, in order."""
    step, run, decision = models.step_run, models.job_run, models.decision
    query = (
        sa.select(run.c.job, step.c.run_id, step.c.step, step.c.started_at, step.c.error)
        .join(run, run.c.id == step.c.run_id)
        .where(
            step.c.state == "unknown_outcome",
            step.c.started_at >= period.start,
            step.c.started_at < period.end,
            ~run.c.rehearsal,
        )
        .order_by(step.c.started_at, step.c.id)
    )
    rows = connection.execute(query).all()
    decided: dict[tuple[UUID, str | None], tuple[str, str, datetime]] = {}
    runs = sorted({row.run_id for row in rows})
    for some in chunks(runs):
        of_runs = decision.c.run_id.in_(some)
        told = sa.select(decision).where(of_runs).order_by(decision.c.at, decision.c.id)
        for row in connection.execute(told):
            decided[row.run_id, row.step] = (row.verdict, row.person, row.at)
    found = []
    for job, run_id, name, at, error in rows:
        verdict, person, when = decided.get((run_id, name), ("open", "", None))
        first = (error or "").strip().partition("\n")[0][:300]
        found.append(Doubt(job, run_id, name, at, first, verdict, person, when))
    return found


@dataclass
class LockWaits:
    """How long one thing was waited for."""

    resource: str
    waits: int = 0
    gave_up: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0
    job: str = ""
    """Whose the longest wait was."""
    step: str = ""
    holder: str = ""
    """Behind whom it was."""
    at: datetime | None = None


def lock_waits(connection: sa.Connection, period: Period) -> list[LockWaits]:
    """Return the waits for locks that ended in a period, by thing, the longest wait first."""
    run = models.job_run
    query = (
        sa.select(lock_wait, run.c.job)
        .outerjoin(run, run.c.id == lock_wait.c.run_id)
        .where(lock_wait.c.at >= period.start, lock_wait.c.at < period.end)
        .order_by(lock_wait.c.at, lock_wait.c.id)
    )
    found: dict[str, LockWaits] = {}
    for row in connection.execute(query):
        waits = found.setdefault(row.resource, LockWaits(row.resource))
        waits.waits += 1
        waits.gave_up += row.outcome == "gave_up"
        waits.total_s += row.waited_s
        if row.waited_s > waits.longest_s:
            waits.longest_s, waits.at = row.waited_s, row.at
            waits.job, waits.step, waits.holder = row.job or "", row.step, row.holder
    return sorted(found.values(), key=lambda waits: (-waits.longest_s, waits.resource))
