"""What is on record about the runs that alerts are made of."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from smartops.audit import models

_BAD_STEPS = ("failed", "crashed", "unknown_outcome")
_FAILED = ("failed", "crashed")
_LOOK_BACK = 50
"""From how many runs before is seen how long one usually takes."""


@dataclass
class RunOnRecord:
    """A run, with the step that failed first and what it left behind."""

    id: UUID
    job: str
    state: str
    message: str
    started_at: datetime
    ended_at: datetime | None
    host: str
    parent: UUID | None
    rehearsal: bool
    revision: str | None
    step: str = ""
    error: str = ""
    text: str = ""
    attempts: int = 0
    evidence: list[str] = field(default_factory=list)


def runs_on_record(connection: Connection, ids: Collection[UUID]) -> dict[UUID, RunOnRecord]:
    """Return runs by their ids; those that are not on record are left out."""
    found = _runs(connection, models.job_run.c.id.in_(ids)) if ids else {}
    for run_id, steps in _steps(connection, found).items():
        run = found[run_id]
        if bad := [row for row in steps.values() if row.state in _BAD_STEPS]:
            first = min(bad, key=lambda row: row.started_at)
            run.step, run.attempts = first.step, first.attempt
            run.error, run.text = first.error_class or "", first.error or ""
    artifact = models.artifact
    query = sa.select(artifact.c.run_id, artifact.c.name).where(artifact.c.run_id.in_(found))
    for row in connection.execute(query.order_by(artifact.c.id)) if found else ():
        found[row.run_id].evidence.append(row.name)
    return found


def _runs(connection: Connection, which: sa.ColumnElement[bool]) -> dict[UUID, RunOnRecord]:
    run = models.job_run
    names = ("id", "job", "state", "message", "started_at", "ended_at", "host", "parent")
    columns = [run.c[name] for name in (*names, "rehearsal", "revision")]
    return {
        row.id: RunOnRecord(*row) for row in connection.execute(sa.select(*columns).where(which))
    }


def _steps(connection: Connection, runs: Collection[UUID]) -> dict[UUID, dict[str, sa.Row[Any]]]:
    """Return the last attempt of each step of some runs."""
    step = models.step_run
    names = ("run_id", "step", "state", "attempt", "error_class", "error", "started_at")
    query = sa.select(*(step.c[name] for name in names)).where(step.c.run_id.in_(runs))
    found: dict[UUID, dict[str, sa.Row[Any]]] = {}
    for row in connection.execute(query.order_by(step.c.started_at)) if runs else ():
        found.setdefault(row.run_id, {})[row.step] = row
    return found


def running_runs(connection: Connection) -> list[RunOnRecord]:
    """Return the runs of jobs that are under way."""
    return list(_runs(connection, models.job_run.c.state == "running").values())


def alert_parts(connection: Connection, revisions: Iterable[str | None]) -> dict[str, Any]:
    """Return what revisions of jobs say for alerts, by the revision."""
    wanted = {revision for revision in revisions if revision}
    table = models.job_revision
    query = sa.select(table.c.revision, table.c.spec).where(table.c.revision.in_(wanted))
    rows = connection.execute(query) if wanted else ()
    return {row.revision: json.loads(row.spec).get("alert", {}) for row in rows}


def newest_alert_part(connection: Connection, job: str) -> dict[str, Any]:
    """Return what the newest revision of a job says for alerts."""
    table = models.job_revision
    query = sa.select(table.c.spec).where(table.c.job == job)
    spec = connection.execute(query.order_by(table.c.first_seen_at.desc()).limit(1)).scalar()
    part: dict[str, Any] = json.loads(spec).get("alert", {}) if spec else {}
    return part


def failures_in_a_row(connection: Connection, job: str, until: datetime, most: int) -> int:
    """Return how many of a job's last runs failed one after the other, up to ``most``."""
    run = models.job_run
    query = sa.select(run.c.state).where(
        run.c.job == job,
        run.c.rehearsal.is_(False),
        run.c.ended_at <= until,
        run.c.state.in_((*_FAILED, "completed")),
    )
    count = 0
    for state in connection.execute(query.order_by(run.c.ended_at.desc()).limit(most)).scalars():
        if state not in _FAILED:
            break
        count += 1
    return count


def usual_duration(
    connection: Connection, job: str, before: datetime
) -> tuple[timedelta | None, int]:
    """Return how long the last runs of a job took that succeeded, and how many those were."""
    run = models.job_run
    query = sa.select(run.c.started_at, run.c.ended_at).where(
        run.c.job == job,
        run.c.state == "completed",
        run.c.rehearsal.is_(False),
        run.c.started_at < before,
        run.c.ended_at.is_not(None),
    )
    rows = connection.execute(query.order_by(run.c.started_at.desc()).limit(_LOOK_BACK))
    took = [(row.ended_at - row.started_at).total_seconds() for row in rows]
    return (timedelta(seconds=median(took)) if took else None), len(took)


def known_jobs(connection: Connection) -> list[str]:
    """Return the names of all jobs on record."""
    job = models.job_revision.c.job
    return sorted(connection.execute(sa.select(job).distinct()).scalars())


def last_runs(
    connection: Connection, jobs: Collection[str], *, any_end: bool
) -> dict[str, datetime]:
    """Return when each job ended last; only well, unless ``any_end``."""
    run = models.job_run
    which = (run.c.job.in_(jobs)) & run.c.ended_at.is_not(None) & run.c.rehearsal.is_(False)
    if not any_end:
        which &= run.c.state == "completed"
    query = sa.select(run.c.job, sa.func.max(run.c.ended_at)).where(which).group_by(run.c.job)
    return {row[0]: row[1] for row in connection.execute(query)} if jobs else {}
