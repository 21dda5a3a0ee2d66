"""Writes runs, steps and device commands to the journal: the intent before, the outcome after."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from importlib.metadata import entry_points
from typing import Any
from uuid import UUID

from uuid6 import uuid7

from smartops import lock_waits, redact
from smartops.audit import gaps, liveness, log_lines
from smartops.audit.events import NO_RUN, Event, RunState, StepState
from smartops.audit.journal import get_journal
from smartops.audit.reading_batches import batches
from smartops.drivers.exchanges import Tally
from smartops.drivers.quarantine import Change
from smartops.drivers.readings import Command, CommandResult, Reading
from smartops.errors import JournalFull, JournalUnavailable, SmartOpsError, UnknownOutcome
from smartops.lock_waits import Wait
from smartops.locks import acting
from smartops.vocabulary import Effect


@dataclass(frozen=True)
class RunInfo:
    """Which run it is. ``spec`` is the canonical JSON of the job, for runs of a job."""

    id: UUID
    job: str
    flow: str
    kind: str = "flow"
    deployment: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    revision: str | None = None
    spec: str | None = None
    parent: UUID | None = None
    """The run whose step started this one."""
    resumes: UUID | None = None
    """The run that this one takes up again."""
    rehearsal: bool = False
    requested_by: str | None = None
    """Who asked for it: a person's name, ``schedule``, or None where nobody said."""
    function: Callable[..., Any] | None = None
    """The function that the run as a whole is a call of, where that is known."""


_explicit: ContextVar[RunInfo | None] = ContextVar("smartops_run", default=None)
current_step: ContextVar[StepRecord | None] = ContextVar("smartops_step", default=None)
"""The record of the step that this code runs in."""
_started: dict[int, set[UUID]] = {}
_ended: set[UUID] = set()
_NOT_TOLD = ("id", "function")
_undecided: set[UUID] = set()
"""Runs with a step whose effect may have happened when the run was cancelled."""
_guard = threading.Lock()
_NEED_NO_SYNC = {"step.started", "step.ended"}
"""Of a step that only reads: a power cut leaves nothing in doubt there. The next sync is theirs."""
logger = logging.getLogger(__name__)


def _foreign_run() -> RunInfo | None:
    """Ask whoever runs us (Prefect, by entry point) which run this is."""
    for entry in entry_points(group="smartops.run_context"):
        found: Callable[[], RunInfo | None] = entry.load()
        if (info := found()) is not None:
            return info
    return None


def explicit_run() -> RunInfo | None:
    """Return the run that :func:`recorded_run` opened around this code, if any."""
    return _explicit.get()


def current_run() -> RunInfo | None:
    """Return the run that this code belongs to, None outside of any."""
    return explicit_run() or _foreign_run()


def _write(event: Event, *, intent: bool = False, durable: bool = True) -> None:
    """Journal an event, and before it how many of its run could not be."""
    missing = gaps.take(event.run_id)
    gap = [Event("journal.gap", event.run_id, {"records": missing})] if missing else []
    try:
        get_journal().append(*gap, event, intent=intent, durable=durable)
    except JournalUnavailable:
        if missing:
            gaps.note(event.run_id, missing)
        raise


def start_run(info: RunInfo, *, again: bool = False) -> None:
    """Journal the start of a run, once in each process. Raises JournalUnavailable.

    A run that has ended here begins ``again`` only on purpose, not for a step that comes late. In a
    child process of the run's own the start is secondary: the run does not end with it.
    """
    with _guard:
        known = _started.setdefault(os.getpid(), set())
        if info.id in known or (info.id in _ended and not again):
            return
        body = {key: value for key, value in asdict(info).items() if key not in _NOT_TOLD}
        if multiprocessing.parent_process() is not None:
            body["secondary"] = True
        _write(Event("run.started", info.id, body))
        known.add(info.id)
        _ended.discard(info.id)
    log_lines.install()
    liveness.let_machines_hear()


def end_run(info: RunInfo, state: RunState, message: str = "", output: Any = None) -> None:
    """Journal the end of a run, with what it gives to whoever asked for it."""
    body = {"state": state, "message": message}
    _write(Event("run.ended", info.id, body if output is None else {**body, "output": output}))
    _forget(info)


def suspend_run(info: RunInfo, message: str = "", state: RunState = "suspended") -> None:
    """Journal that a run leaves its process, to be resumed in another.

    ``state`` is ``needs_decision`` where a person has to say what an effect did.
    """
    _write(Event("run.suspended", info.id, {"message": message, "state": state}))
    _forget(info)


def _forget(info: RunInfo) -> None:
    with _guard:
        _started.get(os.getpid(), set()).discard(info.id)
        _ended.add(info.id)


def is_recorded(run_id: UUID) -> bool:
    """Return whether this process has put the start of a run on record, and not yet its end."""
    return run_id in _started.get(os.getpid(), ())


suspensions: set[type[BaseException]] = set()
"""What is raised through a run that is not to end, but to leave its process for a while."""


@dataclass
class Ending:
    """What is put on record of a run's end, or of its leaving its process for a while."""

    output: Any = None
    """What the run gives to whoever asked for it."""
    suspended: RunState = "suspended"
    message: str = ""
    """Why it is suspended."""


@contextmanager
def recorded_run(info: RunInfo) -> Iterator[Ending]:
    """Record the block as a run; what it raises decides the state that is recorded."""
    ending = Ending()
    token = _explicit.set(info)
    try:
        start_run(info, again=True)
        yield ending
    except BaseException as error:
        if not is_recorded(info.id):  # it has not begun
            raise
        if isinstance(error, tuple(suspensions)):
            suspend_run(info, ending.message or describe(error), ending.suspended)
            raise
        state = run_state(error)
        if info.id in _undecided:
            state = "needs_decision"
        with _only_logged():
            end_run(info, state, describe(error))
        raise
    else:
        end_run(info, "completed", output=ending.output)
    finally:
        _undecided.discard(info.id)
        _explicit.reset(token)


@contextmanager
def _only_logged() -> Iterator[None]:
    """Let a failure of the journal not hide the failure that is being recorded."""
    try:
        yield
    except JournalUnavailable as error:
        logger.error("a failure could not be put on record: %s", error.one_line)  # noqa: TRY400


class RunCancelled(BaseException):
    """A run that a person cancels, after it has ended in order."""


def run_state(error: BaseException) -> RunState:
    """Return the state of a run that ended with this error."""
    if isinstance(error, UnknownOutcome):
        return "needs_decision"
    return "failed" if isinstance(error, Exception) else "cancelled"


def describe(error: BaseException) -> str:
    """Return an error as one line without secrets."""
    if isinstance(error, SmartOpsError):
        return redact.text(error.one_line)
    return redact.text(f"{type(error).__name__}: {error}")


class StepRecord:
    """One attempt of a step, on record from before its first effect. Also its command log."""

    def __init__(
        self,
        info: RunInfo,
        *,
        step: str,
        kind: str,
        effect: Effect,
        attempt: int,
        inputs: Any,
        unrecorded_reads: bool = False,
    ) -> None:
        self.id = uuid7()
        self.step = step
        self.run_id = info.id
        self.effect = effect
        self._may_go_unrecorded = unrecorded_reads and effect is Effect.READ
        self._unrecorded = 0
        self.touched: bool | None = None
        """Whether the effect was started; None when the step does not say."""
        self.tally = Tally()
        """Where the drivers count what they ask."""
        start_run(info)
        self._append(
            "step.started",
            intent=True,
            step=step,
            kind=kind,
            effect=effect.value,
            attempt=attempt,
            inputs=inputs,
        )

    def _append(self, type: Any, *, intent: bool = False, **body: Any) -> None:  # noqa: A002
        body["step_run_id"] = str(self.id)
        event = Event(type, self.run_id, body)
        if self._unrecorded:
            return self._go_unrecorded()
        durable = self.effect is not Effect.READ or type not in _NEED_NO_SYNC
        try:
            _write(event, intent=intent, durable=durable)
        except JournalFull:
            if not self._may_go_unrecorded:
                raise
            self._go_unrecorded()

    def _go_unrecorded(self) -> None:
        """Let a read go on without a record. That records are missing is on record, later."""
        self._unrecorded += 1
        gaps.note(self.run_id)

    @property
    def may_have_happened(self) -> bool:
        """Whether harm was done if the step is broken off now and then done again."""
        return self.effect is Effect.UNSAFE and self.touched is not False

    def completed(self, output: Any) -> None:
        """Record that the attempt succeeded. Raises UnknownOutcome when the journal cannot."""
        try:
            self._append("step.ended", state="completed", output=output, **self.tally.as_fields())
        except JournalUnavailable as error:
            if self.effect is Effect.READ:
                raise
            raise _unrecorded("the step was done", error) from error

    def failed(self, error: BaseException) -> None:
        """Record how the attempt failed. A failure of the journal is logged, and hides nothing."""
        state = step_state(error)
        if state == "cancelled" and self.may_have_happened:
            state = "unknown_outcome"
            _undecided.add(self.run_id)
        with _only_logged():
            self._append(
                "step.ended",
                state=state,
                error_class=type(error).__name__,
                error=describe(error),
                **self.tally.as_fields(),
            )

    def readings(self, device: str, readings: Sequence[Reading]) -> None:
        """Put readings on record, in batches that an event can hold."""
        for batch in batches(readings):
            self._append("readings", device=device, readings=batch)

    def artifact(self, name: str, place: str, media_type: str, *, sha256: str, size: int) -> None:
        """Put a file that the step has made on record; ``size`` is in bytes. It never raises."""
        with _only_logged():
            self._append(
                "artifact",
                name=name,
                media_type=media_type,
                bytes=size,
                sha256=sha256,
                place=place,
            )

    def quality(self, **found: Any) -> None:
        """Put on record how one expectation of a check of data was met."""
        self._append("quality", **found)

    def child(self, run_id: UUID, job: str) -> None:
        """Put on record that this attempt has started a run of a job. It never raises."""
        with _only_logged():
            self._append("child.started", child=str(run_id), job=job)

    def intend(self, command: Command) -> str:
        """Record a device command before it is sent; return its id. Raises JournalUnavailable."""
        command_id = str(uuid7())
        self._append("command.intended", intent=True, command_id=command_id, **asdict(command))
        self.touched = True
        return command_id

    def conclude(self, command_id: str, result: CommandResult) -> None:
        """Record how a device command ended. Raises UnknownOutcome when the journal cannot."""
        try:
            self._append("command.concluded", command_id=command_id, **asdict(result))
        except JournalUnavailable as error:
            raise _unrecorded(f"the command was sent ({result.state})", error) from error


def _unrecorded(what: str, error: JournalUnavailable) -> UnknownOutcome:
    return UnknownOutcome(f"{what}, but that could not be put on record: {error}", hint=error.hint)


def device_changed(change: Change) -> None:
    """Record that a device is left alone, with an alert, or that it is back. It never raises.

    It belongs to the run that found it out, where there is one.
    """
    info = current_run()
    run_id = NO_RUN if info is None else info.id
    what = f"{change.device} ({change.part})" if change.part else change.device
    gone = change.state == "quarantined"
    said = "does not answer, and is left alone for a while" if gone else "answers again"
    alert = {
        "rule": f"device-{change.state}",
        "severity": "warning" if gone else "info",
        "title": f"{what} {said}"[:255],
        "text": f"{change.resource}: {change.failures} times in a row: {change.reason}",
    }
    stated = Event("alert", run_id, alert)
    with _only_logged():
        _write(Event("device", run_id, {**asdict(change), "alert_id": str(stated.id)}))
        _write(stated)


def lock_waited(wait: Wait) -> None:
    """Record that a run waited for something, or gave it up. It never raises, and is quick."""
    actor = acting.get()
    if actor.run:
        with _only_logged(), suppress(ValueError):  # what is no run waits off the record
            body = {**asdict(wait), "step": actor.step}
            _write(Event("lock.waited", UUID(actor.run), body))


lock_waits.listeners.append(lock_waited)


def step_state(error: BaseException) -> StepState:
    """Return the state of a step that ended with this error."""
    if isinstance(error, UnknownOutcome):
        return "unknown_outcome"
    if isinstance(error, asyncio.CancelledError) or not isinstance(error, Exception):
        return "cancelled"
    return "failed"


def refuse_step(
    info: RunInfo, *, step: str, kind: str, effect: Effect, error: BaseException
) -> None:
    """Record a step that failed before it was begun."""
    record = StepRecord(info, step=step, kind=kind, effect=effect, attempt=0, inputs={})
    record.touched = False
    record.failed(error)


def skip_step(info: RunInfo, *, step: str, kind: str, effect: Effect, why: str) -> None:
    """Record a step that will not run, and why."""
    record = StepRecord(info, step=step, kind=kind, effect=effect, attempt=0, inputs={})
    record._append("step.ended", state="skipped", error=why)
