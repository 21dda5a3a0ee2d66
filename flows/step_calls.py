"""Makes the steps of a run: each as a Prefect task, once or for each value of a list."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from prefect.client.schemas.objects import RunInput, State, TaskRunResult
from prefect.task_engine import run_task_async
from prefect.utilities.annotations import quote

from flows.walk import StepOutcome, is_bad
from smartops.audit import recording
from smartops.audit.progress import UNKNOWN_ITEM, Kept, Progress
from smartops.audit.recording import RunInfo, describe, step_state
from smartops.errors import BadInput, NotDone, SmartOpsError
from smartops.jobs import templating
from smartops.jobs.answers import NOBODY, Answer, Decision, rehearsed_answer
from smartops.jobs.graph import Plan
from smartops.jobs.kinds.approval import Approval
from smartops.jobs.step import StepBase, item_name, step_of
from tasks import catalogue
from tasks.approval import approved_by, given_answer
from tasks.step import as_json

MOST_ITEMS = 10_000


@dataclass(frozen=True)
class Item:
    """One value of a step's list."""

    number: int
    value: Any


@dataclass
class StepCalls:
    """Makes the steps of one run, and knows what they gave."""

    plan: Plan
    info: RunInfo
    names: Mapping[str, Any]
    """What expressions may name, but for the outputs of steps and the item: params, vars, run."""
    progress: Progress
    kept: dict[str, Kept] = field(default_factory=dict)
    """What an earlier part of the run achieved, by name on record."""
    may_ask: bool = True
    """Whether a person can be asked: a run without a deployment cannot leave its process."""
    only_known: bool = False
    """Whether nothing new is made any more: the run is cancelled, and only ends in order."""
    answers: dict[str, Answer] = field(default_factory=dict)
    """The answers to approvals, by the step's id."""
    doubts: dict[str, tuple[Item | None, str]] = field(default_factory=dict)
    """Names on record whose outcome is not known, with the reason."""
    outputs: dict[str, Any] = field(default_factory=dict)
    """The outputs of the steps that succeeded, by id."""
    made: dict[str, tuple[StepBase, Item | None]] = field(default_factory=dict)
    """What has succeeded, by its name on record, in the order in which it ended."""
    failed: bool = False
    """What ``{{ run.failed }}`` gives."""
    _undoings: dict[str, str] = field(default_factory=dict)
    """The steps that take others back, and which they take back."""
    _task_runs: dict[str, RunInput] = field(default_factory=dict)

    @cached_property
    def _approvals(self) -> frozenset[str]:
        """The steps that ask somebody."""
        return frozenset(step.id for step in self.plan.job.steps if isinstance(step, Approval))

    def known(self, item: Item | None = None) -> dict[str, Any]:
        """Return what expressions may name."""
        run = {**self.names["run"], "failed": self.failed}
        found: dict[str, Any] = {**self.names, "run": run, "steps": self.outputs}
        if item is not None:
            found["item"] = {"value": item.value, "number": item.number}
        return found

    async def make(self, step: StepBase) -> StepOutcome:
        """Make a step, for each value of its list where it has one."""
        if self.info.rehearsal and (why := _not_rehearsed(step)):
            self.skip(step, step.id, why)
            return StepOutcome("skipped", reason=why, harmless=True)
        if isinstance(step, Approval) and self.info.rehearsal:
            self.answers[step.id] = rehearsed_answer(step)
        if isinstance(step, Approval) and step.id not in {*self.answers, *self.kept}:
            return self._waiting(step)
        if step.foreach is None:
            outcome = await self._one(step, step.id)
        else:
            outcome = self._each_kept(step) or await self._each(step)
        if outcome.state == "completed":
            self.outputs[step.id] = outcome.output
        elif outcome.state == "unknown_outcome" and self.may_ask and not step.always:
            return StepOutcome("waiting", error=outcome.error)
        return outcome

    def _waiting(self, step: Approval) -> StepOutcome:
        """Return that an approval waits, unless it is not to be asked, or cannot be."""
        try:
            if step.when and not self._is_wanted(step, None):
                return self._left_out(step, step.id)
            self.question(step)
            if not step.requester_may_approve and self.info.requested_by is None:
                raise BadInput(
                    "nobody knows who asked for this run, so that it may be anybody's own",
                    hint="Start it with `smartops job run`, or from a schedule.",
                )
            if not self.may_ask:
                raise BadInput(
                    "an approval needs a run that can wait",
                    hint="Start the job from a deployment, as `smartops job run` does.",
                )
        except SmartOpsError as error:
            return self._refused(step, step.id, error)
        return StepOutcome("waiting")

    def question(self, step: Approval) -> str:
        """Return what an approval asks. Raises TemplateError."""
        return str(templating.render(step.text, self.known()))

    def decide(self, name: str, decision: Decision) -> None:
        """Go by what a person found out about a step whose outcome was not known."""
        item, _ = self.doubts.pop(name)
        value = item.value if item else None
        self.kept.pop(name, None)
        if decision.verdict == "done":
            self.kept[name] = Kept(name, "completed", {}, item=value)
        elif decision.verdict == "not-done":
            error = NotDone(f"{decision.person} found that it was not done")
            self.kept[name] = Kept(name, "failed", error=error.one_line, item=value)
        if name in self.kept:
            self.progress.keep(self.kept[name])

    async def undo(self, outcomes: dict[str, StepOutcome]) -> None:
        """Take back what was made and can be, the last first; a failure does not stop the rest.

        Notes the outcomes by name on record.
        """
        while self.made:
            _, (step, item) = self.made.popitem()
            undoing = step.undo_step()
            if undoing is not None:
                name = _name(undoing.id, item)
                self._undoings[undoing.id] = step.id
                outcomes[name] = await self._one(undoing, name, item)

    # --- lists --------------------------------------------------------------------------------

    def _each_kept(self, step: StepBase) -> StepOutcome | None:
        """Return the outcome of a list that an earlier part of the run has wholly made."""
        whole = self.kept.get(step.id)
        if whole is None or whole.state != "completed":
            return None
        for name, kept in self.kept.items():
            if name != step.id and step_of(name) == step.id and kept.state == "completed":
                number = int(name.partition("[")[2].rstrip("]"))
                self.made[name] = (step, Item(number, kept.item))
        return StepOutcome("completed", whole.output)

    async def _each(self, step: StepBase) -> StepOutcome:
        """Make a step for each value; no new one begins after a failure, unless that is allowed."""
        try:
            items = self._items(step)
        except SmartOpsError as error:
            return self._refused(step, step.id, error)
        limit = asyncio.Semaphore(step.max_parallel)
        outcomes: dict[int, StepOutcome] = {}

        async def one(item: Item) -> None:
            async with limit:
                stopped = any(is_bad(outcome) for outcome in outcomes.values())
                name = _name(step.id, item)
                if name in self.kept or not stopped or step.on_failure == "continue":
                    outcomes[item.number] = await self._one(step, name, item)

        tasks = [asyncio.create_task(one(item)) for item in items]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        outcome = _together([outcomes.get(item.number) for item in items])
        if outcome.state == "completed":
            self.progress.keep(Kept(step.id, "completed", outcome.output))
        return outcome

    def _items(self, step: StepBase) -> list[Item]:
        value = templating.render(step.foreach, self.known())
        if not isinstance(value, (list, tuple)):
            raise BadInput(f"foreach gives a {type(value).__name__}, where a list is wanted")
        if len(value) > MOST_ITEMS:
            raise BadInput(f"foreach gives {len(value)} values; {MOST_ITEMS} are the most")
        return [Item(number, item) for number, item in enumerate(value)]

    # --- one call -----------------------------------------------------------------------------

    async def _one(self, step: StepBase, name: str, item: Item | None = None) -> StepOutcome:
        kept = self.kept.get(name)
        if kept is not None and (item is None or kept.item in (item.value, UNKNOWN_ITEM)):
            return self._note(step, item, _outcome_of(kept))
        if self.only_known and not (step.always or step.id in self._undoings):
            return StepOutcome("cancelled")
        try:
            if step.when and not self._is_wanted(step, item):
                return self._left_out(step, name)
        except SmartOpsError as problem:
            return self._refused(step, name, problem)
        outcome = self._note(step, item, await self._call(step, name, item))
        value = item.value if item else None
        error = describe(outcome.error) if outcome.error else ""
        self.progress.keep(Kept(name, outcome.state, outcome.output, error, value))
        return outcome

    def _note(self, step: StepBase, item: Item | None, outcome: StepOutcome) -> StepOutcome:
        if outcome.state == "completed":
            self.made[_name(step.id, item)] = (step, item)
        elif outcome.state == "unknown_outcome" and outcome.error is not None:
            self.doubts[_name(step.id, item)] = (item, describe(outcome.error))
        return outcome

    async def _call(self, step: StepBase, name: str, item: Item | None) -> StepOutcome:
        task: Any = catalogue.task_for(
            step,
            lambda: self.known(item),
            name=name,
            unrecorded_reads=self.plan.job.read_when_journal_full,
        )
        needed = self.plan.needs.get(step.id, frozenset())
        behind = {self._task_runs[other] for other in needed if other in self._task_runs}
        given_answer.set(self.answers.get(step.id))
        approved_by.set(self._approvers(self._undoings.get(step.id, step.id)))
        # Told what it is behind, and not given the states to wait for: Prefect would search each
        # of them through and through, which takes longer than all else that it does for a task.
        state: State[Any] | None = await run_task_async(
            task,
            parameters={},
            return_type="state",
            wait_for=quote(()),
            dependencies={"wait_for": behind},
        )
        assert state is not None  # noqa: S101 - it was asked for
        if state.is_completed() and state.state_details.task_run_id is not None:
            self._task_runs[step.id] = TaskRunResult(id=state.state_details.task_run_id)
        result = await state.aresult(raise_on_failure=False)
        if isinstance(result, BaseException):
            return StepOutcome(step_state(result), error=result)
        return StepOutcome("completed", as_json(result))

    def _approvers(self, step_id: str) -> str:
        """Return who has approved what a step comes behind, "" where nobody had to."""
        asked = {name for name in self._approvals if name in self.outputs}
        behind: set[str] = set()
        queue = [step_id] if asked else []
        while queue:
            new = self.plan.needs.get(queue.pop(), frozenset()) - behind
            behind |= new
            queue += new
        persons = {str(self.outputs[name]["person"]) for name in asked & behind}
        persons.discard(NOBODY)  # when the time is over is not when somebody has said yes
        return ", ".join(sorted(persons))

    def _is_wanted(self, step: StepBase, item: Item | None) -> bool:
        value = templating.render(step.when, self.known(item))
        if not isinstance(value, bool):
            raise BadInput(f"when gives {value!r}, where true or false is wanted")
        return value

    def _left_out(self, step: StepBase, name: str) -> StepOutcome:
        why = f"{step.when} is not true"
        self.skip(step, name, why)
        self.progress.keep(Kept(name, "skipped", error=why))
        return StepOutcome("skipped", reason=why, harmless=True)

    def skip(self, step: StepBase, name: str, why: str) -> None:
        """Put on record that a step is not made, and why."""
        effect = catalogue.effect_if_skipped(step)
        recording.skip_step(self.info, step=name, kind=step.kind, effect=effect, why=why)

    def _refused(self, step: StepBase, name: str, error: SmartOpsError) -> StepOutcome:
        """Put on record that a step failed before it was begun."""
        effect = catalogue.effect_if_skipped(step)
        recording.refuse_step(self.info, step=name, kind=step.kind, effect=effect, error=error)
        return StepOutcome("failed", error=error)


def _name(step_id: str, item: Item | None) -> str:
    return step_id if item is None else item_name(step_id, item.number)


def _not_rehearsed(step: StepBase) -> str:
    """Return why a step is not made in a rehearsal, "" where it is."""
    if step.kind == "python.call":
        return "a function of one's own may reach anything: it is not called in a rehearsal"
    if step.kind == "browser.selenium":
        return "a script of one's own may reach anything: it is not run in a rehearsal"
    return ""


def _outcome_of(kept: Kept) -> StepOutcome:
    """Return the outcome that was kept; of an error only its text is."""
    if kept.state == "completed":
        return StepOutcome("completed", kept.output)
    if kept.state == "skipped":
        return StepOutcome("skipped", reason=kept.error, harmless=True)
    state: Any = "unknown_outcome" if kept.state == "unknown_outcome" else "failed"
    return StepOutcome(state, error=SmartOpsError(kept.error))


def _together(outcomes: list[StepOutcome | None]) -> StepOutcome:
    """Return the outcome of a step from those of its items, None for items not begun."""
    for state in ("unknown_outcome", "failed", "cancelled"):
        for outcome in outcomes:
            if outcome is not None and outcome.state == state:
                return outcome
    if outcomes and all(outcome is not None and outcome.harmless for outcome in outcomes):
        return StepOutcome("skipped", reason="its condition is true of no item", harmless=True)
    items = [outcome.output if outcome is not None else None for outcome in outcomes]
    return StepOutcome("completed", {"items": items, "count": len(items)})
