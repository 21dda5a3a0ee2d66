"""Walks a plan: starts each step as soon as what it needs is done. Knows nothing of Prefect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from smartops.audit.events import StepState
from smartops.jobs.graph import Plan
from smartops.jobs.step import StepBase


@dataclass(frozen=True)
class StepOutcome:
    """How a step ended."""

    state: StepState
    output: Any = None
    error: BaseException | None = None
    skipped_for: str = ""
    """For a skipped step: the step that it needs and that has not succeeded."""


Start = Callable[[StepBase], Awaitable[StepOutcome]]


async def walk(plan: Plan, start: Start) -> dict[str, StepOutcome]:
    """Run the plan; return each step's outcome, in the order of the file.

    A step that needs one that did not succeed is skipped; the others go on. When the walk is
    cancelled, it ends the steps that are under way first.
    """
    outcomes: dict[str, StepOutcome] = {}
    running: dict[asyncio.Task[StepOutcome], str] = {}
    waiting = {step.id: step for step in plan.job.steps}
    try:
        while waiting or running:
            for step_id, step in list(waiting.items()):
                if plan.needs[step_id] <= outcomes.keys():
                    del waiting[step_id]
                    if blocker := _blocker(plan, step_id, outcomes):
                        outcomes[step_id] = StepOutcome("skipped", skipped_for=blocker)
                        break  # what needs this one may be skipped now too
                    running[asyncio.create_task(_call(start, step), name=step_id)] = step_id
            else:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    outcomes[running.pop(task)] = task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return {step.id: outcomes[step.id] for step in plan.job.steps}


async def _call(start: Start, step: StepBase) -> StepOutcome:
    return await start(step)


def _blocker(plan: Plan, step_id: str, outcomes: dict[str, StepOutcome]) -> str:
    needed = sorted(plan.needs[step_id])
    return next((name for name in needed if outcomes[name].state != "completed"), "")
