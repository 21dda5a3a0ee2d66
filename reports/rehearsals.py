"""What a rehearsal would have done, beside what the last real run of the job did."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from reports.runs import RunDetail, StepResult, get_run
from smartops.audit import models
from smartops.audit.store import Store
from smartops.jobs.step import shorten
from smartops.rehearsal import TWIN


@dataclass(frozen=True)
class Rehearsal:
    """What a rehearsal did to the simulated plant."""

    effects: list[str]
    """Each effect in words, in their order."""
    real_run: UUID | None
    """The last run of the job that was none, where there is one."""
    difference: list[str]
    """How its effects differ from those of the real run, as a unified diff."""

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        real = str(self.real_run) if self.real_run else None
        return {"effects": self.effects, "real_run": real, "difference": self.difference}


def compare(store: Store, rehearsal: RunDetail) -> Rehearsal:
    """Return what a rehearsal did, beside the last real run. Raises StoreUnavailable."""
    run = models.job_run
    query = (
        sa.select(run.c.id)
        .where(run.c.job == rehearsal.run.job, ~run.c.rehearsal, run.c.ended_at.is_not(None))
        .order_by(run.c.started_at.desc(), run.c.id.desc())
        .limit(1)
    )
    with store.reading() as connection:
        real_run = connection.execute(query).scalar()
    effects = effects_of(rehearsal)
    if real_run is None:
        return Rehearsal(effects, None, [])
    real = effects_of(get_run(store, str(real_run)))
    lines = difflib.unified_diff(real, effects, f"run {real_run}", "rehearsal", lineterm="")
    return Rehearsal(effects, real_run, list(lines))


def effects_of(detail: RunDetail) -> list[str]:
    """Return what a run did to the world: its device commands, and its other steps with effects.

    The simulated twin of a thing goes by the name of the thing itself.
    """
    commands = [
        f"{command.device}: {command.tag} = {command.requested} {command.unit}".rstrip()
        for command in detail.commands
    ]
    steps = [
        f"{step.id}: {step.kind} {shorten(_inputs(step), 200)}"
        for step in detail.steps
        if step.effect != "read" and step.kind != "modbus.write" and step.state == "completed"
    ]
    return [text.replace(TWIN, "") for text in (*commands, *steps)]


def _inputs(step: StepResult) -> Any:
    """Return what a step was asked to do; the name of a twin is that of its real thing."""
    inputs = step.inputs if isinstance(step.inputs, dict) else {"inputs": step.inputs}
    return {name: value for name, value in inputs.items() if value not in (None, "", [], {}, False)}
