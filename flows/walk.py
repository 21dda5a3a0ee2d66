"""Walks a plan: starts each step as soon as what it needs is done. Knows nothing of Prefect."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from smartops.audit.events import StepState
from smartops.jobs.graph import Plan
from smartops.jobs.step import StepBase


@dataclass(frozen=True)
class StepOutcome:
    """How a step ended; or that it ``waits`` for the answer of a person."""

    state: StepState | Literal["waiting"]
    output: Any = None
    error: BaseException | None = None
    reason: str = ""
    """For a skipped step: why."""
    harmless: bool = False
    """Whether the run can succeed all the same: the job says that the step may be left out."""


Start = Callable[[StepBase], Awaitable[StepOutcome]]


class Walk:
    """The steps of one run and their outcomes: first those of the job, last the `always` ones."""

    def __init__(self, plan: Plan, start: Start) -> None:
        self._plan = plan
        self._start = start
        self.skipped: dict[str, str] = {}
        """The steps that were not begun because of others, with the reason."""
        self._outcomes: dict[str, StepOutcome] = {}

    @property
    def outcomes(self) -> dict[str, StepOutcome]:
        """The outcomes so far, in the order of the file."""
        ids = (step.id for step in self._plan.job.steps)
        return {step_id: self._outcomes[step_id] for step_id in ids if step_id in self._outcomes}

    @property
    def failed(self) -> bool:
        """Whether a step did not succeed that should have."""
        return any(is_bad(outcome) for outcome in self._outcomes.values())

    @property
    def waiting(self) -> list[StepBase]:
        """The steps that wait for the answer of a person, in the order of the file."""
        return [s for s in self._plan.job.steps if s.id in self._outcomes and self._waits(s.id)]

    def _waits(self, step_id: str) -> bool:
        return self._outcomes[step_id].state == "waiting"

    def forget(self, step_id: str) -> None:
        """Let a step be made that waited for an answer."""
        del self._outcomes[step_id]

    async def steps(self) -> None:
        """Make the job's steps, but those that are always made.

        A step that needs one that did not succeed is skipped; the others go on. When the walk is
        cancelled, it ends the steps that are under way first, and notes what became of them.
        """
        await self._go(step for step in self._plan.job.steps if not step.always)

    async def ends(self) -> None:
        """Make the steps that are always made."""
        await self._go(step for step in self._plan.job.steps if step.always)

    async def _go(self, steps: Iterable[StepBase]) -> None:
        waiting = {step.id: step for step in steps if step.id not in self._outcomes}
        running: dict[asyncio.Task[StepOutcome], str] = {}
        maybe = list(waiting)
        try:
            while True:
                self._start_the_ready(maybe, waiting, running)
                if not running:
                    return  # all are made, or wait for a person's answer
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                ended = [running[task] for task in done]
                for task in done:
                    self._note(running.pop(task), task.result())
                maybe = self._behind(ended, waiting)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for task, step_id in running.items():
                self._note(step_id, _outcome_of(task))

    def _behind(self, ended: Iterable[str], waiting: Mapping[str, StepBase]) -> list[str]:
        """Return the waiting steps that need one of those that have ended, as in the file."""
        found = {name for step_id in ended for name in self._plan.behind[step_id]}
        return [name for name in waiting if name in found] if found else []

    def _start_the_ready(
        self,
        maybe: list[str],
        waiting: dict[str, StepBase],
        running: dict[asyncio.Task[StepOutcome], str],
    ) -> None:
        while maybe:
            skipped_now: list[str] = []
            for step_id in maybe:
                step = waiting[step_id]
                if not self._is_ready(step, waiting):
                    continue
                del waiting[step_id]
                if skipped := self._skipped(step):
                    self.skipped[step_id] = skipped.reason
                    self._note(step_id, skipped)
                    skipped_now.append(step_id)  # what needs this one may be skipped now too
                else:
                    task = asyncio.create_task(_call(self._start, step), name=step_id)
                    running[task] = step_id
            maybe = self._behind(skipped_now, waiting)

    def _is_ready(self, step: StepBase, waiting: Mapping[str, StepBase]) -> bool:
        for name in self._plan.needs[step.id]:
            outcome = self._outcomes.get(name)
            if outcome is None and not (step.always and name not in waiting and self._ends(name)):
                return False
            if outcome is not None and outcome.state == "waiting" and not step.always:
                return False
        return True

    def _ends(self, name: str) -> bool:
        """Return whether a step will have no outcome any more: it was never begun."""
        return not self._plan.step(name).always

    def _skipped(self, step: StepBase) -> StepOutcome | None:
        for name in sorted(self._plan.needs[step.id]):
            outcome = self._outcomes.get(name)
            if outcome is not None and outcome.state == "completed":
                continue
            if name in self._plan.uses[step.id]:
                harmless = outcome is not None and outcome.harmless
                reason = f"it uses the output of {name}, which {_how(outcome)}"
                return StepOutcome("skipped", reason=reason, harmless=harmless or step.always)
            if not step.always and outcome is not None and not outcome.harmless:
                reason = f"it needs {name}, which {_how(outcome)}"
                return StepOutcome("skipped", reason=reason)
        return None

    def _note(self, step_id: str, outcome: StepOutcome) -> None:
        step = self._plan.step(step_id)
        if outcome.state == "failed" and step.on_failure == "continue":
            outcome = replace(outcome, harmless=True)
        self._outcomes[step_id] = outcome


def is_bad(outcome: StepOutcome) -> bool:
    """Return whether a run with this outcome of a step has not succeeded."""
    return outcome.state not in {"completed", "waiting"} and not outcome.harmless


def _how(outcome: StepOutcome | None) -> str:
    if outcome is None:
        return "was not begun"
    words = {
        "skipped": "was skipped",
        "unknown_outcome": "has an unknown outcome",
        "cancelled": "was cancelled",
        "waiting": "waits for an answer",
    }
    return words.get(outcome.state, "failed")


def _outcome_of(task: asyncio.Task[StepOutcome]) -> StepOutcome:
    """Return how a step ended that was broken off."""
    if task.cancelled():
        return StepOutcome("cancelled")
    error = task.exception()
    if error is not None:
        return StepOutcome("failed", error=error)
    return task.result()


async def _call(start: Start, step: StepBase) -> StepOutcome:
    return await start(step)
