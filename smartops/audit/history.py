"""What a run achieved, as far as the record holds it whole: for taking it up elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from smartops import redact
from smartops.audit import models
from smartops.audit.progress import UNKNOWN_ITEM, Kept
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs.answers import VERDICTS, Decision
from smartops.jobs.step import step_of

_NEEDS_DECISION = re.compile(r"step (\S+) needs a decision: ")


def history_on_record(store: Store, run_id: UUID) -> list[Kept]:
    """Return what the steps of a run gave, the oldest first.

    Raises StoreUnavailable; BadInput where an output was masked or cut for the record.
    """
    run = models.job_run
    with store.reading() as connection:
        before = connection.execute(sa.select(run.c.resumes).where(run.c.id == run_id)).scalar()
    if before is not None:
        raise BadInput(
            f"run {run_id} has itself taken up run {before}, and what it kept is not on record",
            hint="Take it up on the machine that it ran on, or start a new one.",
        )
    return [*_steps(store, run_id), *_asked(store, run_id)]


def completed_on_record(store: Store, run_id: UUID, known: Collection[str]) -> list[Kept]:
    """Return the steps that succeeded and are not among the known ones; see above."""
    return [kept for kept in _steps(store, run_id, known) if kept.state == "completed"]


def _attempts(store: Store, run_id: UUID) -> list[sa.Row[Any]]:
    """Return the attempts of a run's steps, the oldest first."""
    step = models.step_run
    columns = [step.c[name] for name in ("step", "state", "output", "error", "started_at")]
    query = sa.select(*columns).where(step.c.run_id == run_id).order_by(step.c.started_at)
    with store.reading() as connection:
        return list(connection.execute(query))


def _kept(row: sa.Row[Any], output: Any = None) -> Kept:
    item = None if step_of(row.step) == row.step else UNKNOWN_ITEM
    return Kept(row.step, row.state, output, row.error or "", item, row.started_at.timestamp())


def _steps(store: Store, run_id: UUID, known: Collection[str] = ()) -> list[Kept]:
    found: list[Kept] = []
    for row in _attempts(store, run_id):
        if row.state == "skipped" or row.step in known:
            continue
        output = None if row.output is None else json.loads(row.output)
        if row.state == "completed" and not is_whole(output):
            raise BadInput(
                f"what step {row.step} gave was too long or too secret for the record",
                hint="Take the run up on the machine that it ran on, or start a new one.",
            )
        found.append(_kept(row, output))
    return found


def _asked(store: Store, run_id: UUID) -> list[Kept]:
    """Return the questions that a waiting run has asked, the open one last."""
    run, approval = models.job_run, models.approval
    with store.reading() as connection:
        row = connection.execute(
            sa.select(run.c.state, run.c.message, run.c.ended_at).where(run.c.id == run_id)
        ).first()
        asked = connection.execute(
            sa.select(approval.c.step, approval.c.at)
            .where(approval.c.run_id == run_id, approval.c.state == "asked")
            .order_by(approval.c.at)
        ).all()
    if row is None or row.ended_at is not None:
        return []
    if (step := decision_asked(row.message)) is not None:
        return [Kept(step, "asked")]
    return [Kept(entry.step, "asked", at=entry.at.timestamp()) for entry in asked]


def decision_asked(message: str) -> str | None:
    """Return the step on which a run waits for a decision, by its message on record."""
    match = _NEEDS_DECISION.match(message)
    return match[1] if match else None


@dataclass(frozen=True)
class EndedRun:
    """A run as it stands on record."""

    job: str
    rehearsal: bool
    params: dict[str, Any]
    """With secrets masked."""
    revision: str | None
    """Of the job as it was."""


def run_on_record(store: Store, run_id: UUID) -> EndedRun:
    """Return a run of a job that has ended. Raises StoreUnavailable; BadInput for any other."""
    run = models.job_run
    names = ("job", "state", "rehearsal", "kind", "ended_at", "params", "revision")
    columns = [run.c[name] for name in names]
    with store.reading() as connection:
        row = connection.execute(sa.select(*columns).where(run.c.id == run_id)).first()
    if row is None:
        raise BadInput(f"there is no run {run_id} on record")
    if row.kind != "job" or row.ended_at is None:
        what = "is no run of a job" if row.kind != "job" else f"has not ended: it is {row.state}"
        raise BadInput(f"run {run_id} {what}")
    return EndedRun(row.job, bool(row.rehearsal), json.loads(row.params), row.revision)


def list_resumes(store: Store, run_id: UUID) -> dict[UUID, datetime | None]:
    """Return the runs that have taken a run up, with their ends. Raises StoreUnavailable."""
    run = models.job_run
    query = sa.select(run.c.id, run.c.ended_at).where(run.c.resumes == run_id)
    with store.reading() as connection:
        return {
            row[0]: row[1] for row in connection.execute(query.order_by(run.c.started_at.desc()))
        }


def waiting_runs(store: Store) -> list[UUID]:
    """Return the runs that wait for a person. Raises StoreUnavailable."""
    run = models.job_run
    waits = run.c.state.in_(("suspended", "needs_decision"))
    with store.reading() as connection:
        query = sa.select(run.c.id).where(waits, run.c.ended_at.is_(None))
        return list(connection.execute(query).scalars())


def doubtful_steps(store: Store, run_id: UUID) -> list[Kept]:
    """Return the steps whose last attempt has an unknown outcome. Raises StoreUnavailable."""
    last = {row.step: row for row in _attempts(store, run_id)}
    return [_kept(row) for row in last.values() if row.state == "unknown_outcome"]


def decisions_on_record(
    store: Store, run_id: UUID, doubtful: Iterable[Kept]
) -> dict[str, Decision]:
    """Return the decisions on a run's doubtful steps, by their names.

    A decision on an earlier attempt says nothing of a later one. Raises StoreUnavailable.
    """
    begun = {kept.step: kept.at for kept in doubtful}
    table = models.decision
    query = sa.select(table).where(table.c.run_id == run_id).order_by(table.c.at)
    with store.reading() as connection:
        return {
            row.step: Decision(row.verdict, row.person, row.comment)
            for row in connection.execute(query)
            if row.verdict in VERDICTS and row.at.timestamp() > begun.get(row.step, float("inf"))
        }


def is_whole(output: Any) -> bool:
    """Return whether an output on record is what the step gave: not masked, not cut."""
    if isinstance(output, str):
        return redact.MASK not in output
    if isinstance(output, Mapping):
        if output.get("truncated") is True and "head" in output:
            return False
        return all(is_whole(item) for item in output.values())
    return not isinstance(output, list) or all(is_whole(item) for item in output)
