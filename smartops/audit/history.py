"""What a run achieved, as far as the record holds it whole: for taking it up elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from smartops.audit import models
from smartops.audit.progress import Kept
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs.answers import VERDICTS, Decision

MASK = "********"


def history_on_record(store: Store, run_id: UUID) -> list[Kept]:
    """Return what the steps of a run gave, the oldest first.

    Raises StoreUnavailable; BadInput where an output was masked or cut for the record.
    """
    run, step = models.job_run, models.step_run
    with store.reading() as connection:
        before = connection.execute(sa.select(run.c.resumes).where(run.c.id == run_id)).scalar()
    if before is not None:
        raise BadInput(
            f"run {run_id} has itself taken up run {before}, and what it kept is not on record",
            hint="Take it up on the machine that it ran on, or start a new one.",
        )
    columns = [step.c[name] for name in ("step", "state", "output", "error", "started_at")]
    query = sa.select(*columns).where(step.c.run_id == run_id).order_by(step.c.started_at)
    found: list[Kept] = []
    with store.reading() as connection:
        for row in connection.execute(query):
            if row.state == "skipped":
                continue
            output = None if row.output is None else json.loads(row.output)
            if row.state == "completed" and not is_whole(output):
                raise BadInput(
                    f"what step {row.step} gave was too long or too secret for the record",
                    hint="Take the run up on the machine that it ran on, or start a new one.",
                )
            at = row.started_at.timestamp()
            found.append(Kept(row.step, row.state, output, row.error or "", at=at))
    return found


@dataclass(frozen=True)
class EndedRun:
    """A run as it stands on record."""

    job: str
    state: str
    revision: str | None


def run_on_record(store: Store, run_id: UUID) -> EndedRun:
    """Return a run of a job that has ended. Raises StoreUnavailable; BadInput for any other."""
    run = models.job_run
    columns = (run.c.job, run.c.state, run.c.revision, run.c.kind, run.c.ended_at)
    with store.reading() as connection:
        row = connection.execute(sa.select(*columns).where(run.c.id == run_id)).first()
    if row is None:
        raise BadInput(f"there is no run {run_id} on record")
    if row.kind != "job" or row.ended_at is None:
        what = "is no run of a job" if row.kind != "job" else f"has not ended: it is {row.state}"
        raise BadInput(f"run {run_id} {what}")
    return EndedRun(row.job, row.state, row.revision)


def doubtful_steps(store: Store, run_id: UUID) -> list[Kept]:
    """Return the steps whose last attempt has an unknown outcome. Raises StoreUnavailable."""
    step = models.step_run
    columns = (step.c.step, step.c.state, step.c.error, step.c.started_at)
    query = sa.select(*columns).where(step.c.run_id == run_id).order_by(step.c.started_at)
    last: dict[str, Kept] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            at = row.started_at.timestamp()
            last[row.step] = Kept(row.step, row.state, None, row.error or "", at=at)
    return [kept for kept in last.values() if kept.state == "unknown_outcome"]


def decisions_on_record(store: Store, run_id: UUID) -> dict[str, Decision]:
    """Return the last decision on each step of a run, by its name. Raises StoreUnavailable."""
    table = models.decision
    query = sa.select(table).where(table.c.run_id == run_id).order_by(table.c.at)
    with store.reading() as connection:
        return {
            row.step: Decision(row.verdict, row.person, row.comment)
            for row in connection.execute(query)
            if row.step and row.verdict in VERDICTS
        }


def is_whole(output: Any) -> bool:
    """Return whether an output on record is what the step gave: not masked, not cut."""
    if isinstance(output, str):
        return MASK not in output
    if isinstance(output, Mapping):
        if output.get("truncated") is True and "head" in output:
            return False
        return all(is_whole(item) for item in output.values())
    return not isinstance(output, list) or all(is_whole(item) for item in output)
