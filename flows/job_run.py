"""One run of a job: its steps, the people it asks, what it takes back, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.exceptions import TerminationSignal

from flows import stopping, taking_up
from flows.questions import Questions
from flows.step_calls import StepCalls
from flows.walk import StepOutcome, Walk, is_bad
from smartops.audit.progress import Kept, Progress
from smartops.audit.recording import Ending, RunCancelled, RunInfo, describe
from smartops.durations import format_duration
from smartops.errors import (
    JobTimeout,
    LockLost,
    LockTimeout,
    PermanentError,
    SmartOpsError,
    UnknownOutcome,
)
from smartops.jobs import templating
from smartops.jobs.graph import Plan
from smartops.jobs.kinds.approval import Approval
from smartops.jobs.step import StepBase, step_of
from smartops.locks import Actor, acting, held, inherited, lost
from smartops.rehearsal import rehearsing
from smartops.settings import get_settings
from tasks.run_context import SLOT, cancelled_by_person, inherited_locks


class JobFailed(PermanentError):
    """A job with at least one failed step."""


class JobRun:
    """A run of a plan; ``history`` is what it did before it waited for a person."""

    def __init__(
        self,
        plan: Plan,
        info: RunInfo,
        *,
        history: Sequence[Kept] = (),
        kept: Mapping[str, Kept] | None = None,
    ) -> None:
        self._job = plan.job
        self._progress = Progress(info.id)
        self._questions = Questions(info, self._progress, history)
        names = {
            "params": plan.job.resolve_params(dict(info.params)),
            "vars": plan.job.variables(get_settings().environment),
            "run": _run_names(info),
        }
        self._calls = StepCalls(plan, info, names, self._progress, dict(kept or {}))
        self._calls.may_ask = info.deployment is not None and not info.rehearsal
        self._walk = Walk(plan, self._calls.make)
        self._undone: dict[str, StepOutcome] = {}
        self._used_s = max((k.output for k in history if k.state == taking_up.USED), default=0.0)
        self._began = time.monotonic()

    async def make(self, ending: Ending) -> Any:
        """Make the run. Returns its outputs; raises JobFailed, UnknownOutcome, or what stopped it.

        When it is told to stop, what can be undone is, and the steps for the end are made, before
        it ends. A run that waits for a person holds none of the job's locks.
        """
        async with inherited(inherited_locks()):
            return await self._make(ending)

    async def _make(self, ending: Ending) -> Any:
        rehearsing.set(self._calls.info.rehearsal)
        acting.set(Actor(str(self._calls.info.id), self._job.name))
        cancelled_by = cancelled_by_person()
        self._calls.only_known = cancelled_by is not None
        locks = templating.render(self._job.locks, self._calls.known())
        limit = None if cancelled_by is not None else self._time_left()
        with stopping.cancelled_by_signal() as stop:
            try:
                async with held(locks, limit=limit):
                    stopped = await self._steps(ending)
                    if cancelled_by is not None:
                        stopped = RunCancelled(f"cancelled by {cancelled_by}")
                    stop.cleaning = True
                    if not lost():  # whoever has them now is not to be disturbed
                        await self._clean_up(stopped)
            except LockLost as problem:
                stopped = problem
                await self._end_with(locks, stopped)
            except LockTimeout as problem:
                stopped = JobTimeout(f"{self._too_late()}: {problem}")
                stop.cleaning = True
                await self._end_with(locks, stopped)
            except asyncio.CancelledError as cancelled:
                stopped = cancelled  # while it waited for the job's locks
                stop.cleaning = True
                _go_on()
                await self._end_with(locks, stopped)
        self._tell_of_skipped()
        error = TerminationSignal(signal.SIGTERM) if stop.told else self._error(stopped)
        if error is None:
            output = self._outputs()
            self._progress.forget()
            return output
        self._progress.keep(Kept("", taking_up.ENDED))
        raise error

    async def _end_with(self, locks: Sequence[str], stopped: BaseException) -> None:
        """End a run in order that has not its locks: it gets them anew, and only then."""
        if not (self._calls.kept or self._calls.made):
            return  # it was not begun
        try:
            async with held(locks, limit=self._job.cleanup):
                self._calls.only_known = True
                await self._clean_up(stopped)
        except (LockTimeout, LockLost) as error:
            get_run_logger().error("nothing was taken back: %s", error)

    def _used(self) -> float:
        """Return for how many seconds the run was under way, in this process and those before."""
        return self._used_s + time.monotonic() - self._began

    def _time_left(self) -> timedelta | None:
        limit = self._job.timeout
        return None if limit is None else max(limit - timedelta(seconds=self._used()), timedelta())

    def _too_late(self) -> str:
        limit = self._job.timeout
        return f"the run was not done after {format_duration(limit) if limit else 'its time'}"

    # --- the steps, and questions -------------------------------------------------------------

    async def _steps(self, ending: Ending) -> BaseException | None:
        """Make the steps; return what stopped them, None where nothing did.

        Prefect's ``Pause`` passes: the run leaves its process then.
        """
        left = self._time_left()
        try:
            async with asyncio.timeout(left.total_seconds() if left is not None else None):
                while True:
                    await self._walk.steps()
                    waiting = self._walk.waiting
                    if not waiting or self._calls.only_known:
                        return None
                    if not await self._take_answers(waiting):
                        await self._ask(waiting[0], ending)
        except TimeoutError:
            return JobTimeout(self._too_late())
        except asyncio.CancelledError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is, the run has to end in order
            return error

    async def _take_answers(self, waiting: Sequence[StepBase]) -> bool:
        """Take the answers that are there; return whether there was any."""
        found = False
        for step in waiting:
            taken = False
            if isinstance(step, Approval):
                answer = await self._questions.answer(step, self._calls.question(step))
                if answer is not None:
                    self._calls.answers[step.id] = answer
                    taken = True
            else:
                for name in self._doubts_of(step):
                    decision = await self._questions.decision(name, self._calls.doubts[name][1])
                    if decision is not None:
                        self._calls.decide(name, decision)
                        taken = True
            if taken:
                self._walk.forget(step.id)
                found = True
        return found

    def _doubts_of(self, step: StepBase) -> list[str]:
        return [name for name in self._calls.doubts if step_of(name) == step.id]

    async def _ask(self, step: StepBase, ending: Ending) -> None:
        """Ask a person about a step; it raises Prefect's ``Pause``."""
        self._progress.keep(Kept("", taking_up.USED, self._used()))
        if isinstance(step, Approval):
            ending.message = f"step {step.id} waits for an approval"
            await self._questions.ask_approval(step, self._calls.question(step))
            return
        name = self._doubts_of(step)[0]
        ending.suspended = "needs_decision"
        ending.message = f"step {name} needs a decision: {self._calls.doubts[name][1]}"
        await self._questions.ask_decision(name, self._calls.doubts[name][1])

    # --- the end ------------------------------------------------------------------------------

    async def _clean_up(self, stopped: BaseException | None) -> None:
        """Take back what was made, if the run has not succeeded; make the steps for the end."""
        failed = stopped is not None or self._walk.failed
        self._calls.failed = failed
        limit = self._job.cleanup.total_seconds() if failed else None
        if isinstance(stopped, asyncio.CancelledError):
            _go_on()
        if stopped is not None and self._calls.kept:
            self._calls.only_known = True
            await self._walk.steps()  # what was made before is known, and undone as well
        try:
            async with asyncio.timeout(limit):
                if failed:
                    await self._calls.undo(self._undone)
                await self._walk.ends()
        except TimeoutError:
            get_run_logger().error(
                "cleaning up was not done after %s", format_duration(self._job.cleanup)
            )

    def _tell_of_skipped(self) -> None:
        logger = get_run_logger()
        for step_id, why in self._walk.skipped.items():
            step = next(step for step in self._job.steps if step.id == step_id)
            logger.warning("step %s was skipped: %s", step_id, why)
            self._calls.skip(step, step_id, why)

    def _error(self, stopped: BaseException | None) -> BaseException | None:
        """Return the error of the run, if it has one."""
        if isinstance(stopped, asyncio.CancelledError):
            return stopped
        if isinstance(stopped, RunCancelled) and not self._calls.doubts:
            return stopped
        outcomes = {**self._walk.outcomes, **self._undone}
        unknown = {n: o for n, o in outcomes.items() if o.state == "unknown_outcome"}
        failed = unknown or {n: o for n, o in outcomes.items() if o.error and is_bad(o)}
        reasons = [f"{name}: {describe(o.error)}" for name, o in failed.items() if o.error]
        for name, (_, why) in self._calls.doubts.items():
            unknown.setdefault(name, StepOutcome("unknown_outcome"))
            if name not in outcomes:
                reasons.append(f"{name}: {why}")
        if stopped is not None and not unknown:
            reasons.insert(0, describe(stopped))
        if not reasons:
            return None
        text = "; ".join(reasons)
        if unknown:
            return UnknownOutcome(f"job {self._job.name} needs a decision: {text}")
        return JobFailed(f"job {self._job.name} failed at {text}")

    def _outputs(self) -> Any:
        if not self._job.outputs:
            return self._calls.outputs
        try:
            return templating.render(self._job.outputs, self._calls.known())
        except SmartOpsError as error:
            raise JobFailed(f"job {self._job.name} failed at its outputs: {error}") from error


def _go_on() -> None:
    """Let this task go on after it was cancelled: it has to end in order."""
    task = asyncio.current_task()
    if task is not None:
        task.uncancel()


def _run_names(info: RunInfo) -> dict[str, Any]:
    """Return what ``{{ run.name }}`` gives."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    due_at = (run.expected_start_time if run else None) or datetime.now(UTC)
    slot = run.labels.get(SLOT) if run else None
    return {
        "id": str(info.id),
        "job": info.job,
        "due_at": str(slot) if slot else due_at.astimezone(UTC).isoformat(),
        "environment": get_settings().environment,
        "rehearsal": info.rehearsal,
    }
