"""``@step``: from an async function to a Prefect task, on record and honest about effects."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, ParamSpec, TypeVar
from uuid import UUID

from prefect import Task, get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from pydantic import BaseModel

from blocks.connection import Connection, load_connection
from smartops import redact
from smartops.audit import recording
from smartops.audit.recording import RunInfo, StepRecord
from smartops.drivers.exchanges import tally
from smartops.errors import (
    BadAnswer,
    ExpectationFailed,
    LockLost,
    SmartOpsError,
    StepTimeout,
    UnknownOutcome,
    WriteMismatch,
)
from smartops.jobs.kinds import STEP_KINDS
from smartops.jobs.step import Retry, StepBase
from smartops.locks import Actor, acting, held
from smartops.settings import get_settings
from smartops.vocabulary import Effect
from tasks.blocked_calls import watched
from tasks.run_context import current_run, end_with_flow, install_log_filter

P = ParamSpec("P")
R = TypeVar("R")
EffectOf = Effect | Callable[[Mapping[str, Any]], Effect]

install_log_filter()


@dataclass(frozen=True)
class StepDefinition(Generic[P, R]):
    """A step as it was written: the function, the step kind, and what its effect is."""

    function: Callable[P, Awaitable[R]]
    kind: str
    effect: EffectOf

    def effect_of(self, inputs: Mapping[str, Any]) -> Effect:
        """Return the effect of a call with these inputs."""
        return self.effect if isinstance(self.effect, Effect) else self.effect(inputs)


@dataclass(frozen=True)
class StepOptions:
    """How one use of a step is run. The default is a plain call from Python."""

    name: str | None = None
    retry: Retry = field(default_factory=Retry)
    timeout: timedelta | None = None
    effect: Effect | None = None
    unrecorded_reads: bool = False
    """Whether a step that only reads may go on when the journal is full."""
    locks: Callable[[], Sequence[str]] = tuple
    """Gives the names of what the step holds alone while it is made."""
    prepare: Callable[[], Mapping[str, Any]] | None = None
    """Gives the arguments, at each attempt, where they are not known when the task is called."""


DEFINITIONS: dict[str, StepDefinition[..., Any]] = {}


def step(
    *, effect: EffectOf, kind: str | None = None
) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Task[P, Coroutine[Any, Any, R]]]:
    """Make a step of an async function: a Prefect task whose every attempt is in the audit.

    ``effect`` says what making the same call twice would do, or is a function of the arguments
    that says it. ``kind`` is the name in job files; without it the step is for Python flows only.
    An argument that is annotated with a block may also be given as the saved block's name.
    """

    def decorate(
        function: Callable[P, Coroutine[Any, Any, R]],
    ) -> Task[P, Coroutine[Any, Any, R]]:
        definition = StepDefinition(function, kind or function.__name__, effect)
        if kind is not None:
            DEFINITIONS[kind] = definition
        return build_task(definition, StepOptions())

    return decorate


def build_task(
    definition: StepDefinition[P, R], options: StepOptions
) -> Task[P, Coroutine[Any, Any, R]]:
    """Return the Prefect task for one use of a step."""
    effects: dict[UUID, Effect] = {}  # by task run: one task may run many times at once

    @functools.wraps(definition.function)
    async def body(*args: P.args, **kwargs: P.kwargs) -> R:
        return await _attempt(definition, options, args, kwargs, effects)

    if options.prepare is not None:
        vars(body).pop("__wrapped__")  # Prefect would ask for the arguments that come later

    async def may_retry(_task: Any, run: TaskRun, state: State[Any]) -> bool:
        error = await state.aresult(raise_on_failure=False)
        again = should_retry(error, options.retry, effects.pop(run.id, Effect.UNSAFE))
        if again and run.run_count < options.retry.attempts:
            await _wait_as_asked(error, options.retry, run.run_count)
        return again

    # A copy: Prefect reads the source of a function for each task that it makes of one.
    task: Any = copy.copy(_template(definition))
    task.fn = body
    task.name = options.name or definition.function.__name__
    task.task_run_name = options.name
    task.retries = options.retry.attempts - 1
    task.retry_delay_seconds = options.retry.delays_s() or None
    task.retry_jitter_factor = options.retry.jitter or None
    task.retry_condition_fn = may_retry
    made: Task[P, Coroutine[Any, Any, R]] = task
    return made


@functools.cache
def _template(definition: StepDefinition[..., Any]) -> Task[..., Any]:
    """Return a task with all that is the same for each use of a step."""

    @functools.wraps(definition.function)
    async def body(*args: Any, **kwargs: Any) -> Any:
        return await definition.function(*args, **kwargs)

    return Task(
        body,
        name=definition.function.__name__,
        description=inspect.getdoc(definition.function),
        cache_policy=NO_CACHE,  # a cached effect would be an effect that silently did not happen
        persist_result=False,
    )


async def _wait_as_asked(error: object, retry: Retry, attempt: int) -> None:
    """Wait for what the other side asked for (Retry-After) beyond the delay that comes anyway."""
    asked = getattr(error, "retry_after", None)
    if asked is not None:
        await asyncio.sleep(max(0.0, asked.total_seconds() - retry.delays_s()[attempt - 1]))


_AFTER_THE_EFFECT = (BadAnswer, ExpectationFailed, WriteMismatch)


def should_retry(error: object, retry: Retry, effect: Effect) -> bool:
    """Return whether to try again: the error's class is one that ``retry.on`` names.

    An unknown outcome is never tried again, and neither is an error that is not ours. An unsafe
    step is not tried again either on an error that can come after its effect, whatever
    ``retry.on`` says; the drivers raise the others only when nothing was done.
    """
    if not isinstance(error, SmartOpsError) or isinstance(error, UnknownOutcome):
        return False
    if effect is Effect.UNSAFE and isinstance(error, _AFTER_THE_EFFECT):
        return False
    return any(cls.__name__ in retry.on for cls in type(error).__mro__)


def current_record() -> StepRecord:
    """Return the record of the step that is running; device commands are logged to it."""
    record = recording.current_step.get()
    if record is None:
        raise RuntimeError("this is only known inside of a step")
    return record


async def _attempt(
    definition: StepDefinition[P, R],
    options: StepOptions,
    args: Any,
    kwargs: Any,
    effects: dict[UUID, Effect],
) -> R:
    found = current_run()
    if found is None:
        raise RuntimeError("a step runs as a Prefect task")
    info = recording.explicit_run() or found
    if info is found:
        end_with_flow(info)
    try:
        arguments = await _arguments(definition, options, args, kwargs)
        if _effect(definition, options, arguments) is not Effect.READ:
            await _check_still_ours(info)
    except BaseException as error:
        record = _open_record(definition, options, info, {})
        record.touched = False
        record.failed(error)
        raise
    record = _open_record(definition, options, info, arguments)
    task_run = task_run_id()
    effects[task_run] = record.effect
    token = recording.current_step.set(record)
    counting = tally.set(record.tally)
    acting.set(Actor(str(info.id), info.job, record.step))
    try:
        output = await _in_time(definition, options, arguments, record)
        plain = as_json(output)
        record.completed(plain)
    except BaseException as error:
        record.failed(error)
        raise
    finally:
        tally.reset(counting)
        recording.current_step.reset(token)
    effects.pop(task_run, None)
    get_run_logger().info("%s", summary(definition.kind, plain))
    return output


async def _check_still_ours(info: RunInfo) -> None:
    if get_settings().locks == "database":
        from smartops.audit import beats  # noqa: PLC0415 - SQLAlchemy takes long to import

        await asyncio.to_thread(beats.check_still_ours, info.id)


def task_run_id() -> UUID:
    """Return the id of the Prefect task that this step is; the same in all of its attempts."""
    context = TaskRunContext.get()
    if context is None:
        raise RuntimeError("a step runs as a Prefect task")
    return context.task_run.id


async def _arguments(
    definition: StepDefinition[P, R], options: StepOptions, args: Any, kwargs: Any
) -> dict[str, Any]:
    """Return the arguments by name, with saved connections loaded."""
    if options.prepare is not None:
        kwargs = {**kwargs, **options.prepare()}
    signature, hints = _signature(definition.function)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    for name, value in bound.arguments.items():
        hint = hints.get(name)
        if isinstance(value, str) and inspect.isclass(hint) and issubclass(hint, Connection):
            bound.arguments[name] = await load_connection(hint, value)
    return dict(bound.arguments)


@functools.cache
def _signature(function: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    return inspect.signature(function), typing.get_type_hints(function)


def _open_record(
    definition: StepDefinition[P, R],
    options: StepOptions,
    info: RunInfo,
    arguments: Mapping[str, Any],
) -> StepRecord:
    context = TaskRunContext.get()
    return StepRecord(
        info,
        step=options.name or (context.task_run.name if context else definition.kind),
        kind=definition.kind,
        effect=_effect(definition, options, arguments),
        attempt=context.task_run.run_count if context else 1,
        inputs=as_json(arguments),
        unrecorded_reads=options.unrecorded_reads,
    )


def _effect(
    definition: StepDefinition[P, R], options: StepOptions, arguments: Mapping[str, Any]
) -> Effect:
    if options.effect is not None:
        return options.effect
    return definition.effect_of(arguments) if arguments else Effect.UNSAFE


async def _in_time(
    definition: StepDefinition[P, R],
    options: StepOptions,
    arguments: Mapping[str, Any],
    record: StepRecord,
) -> R:
    limit_s = options.timeout.total_seconds() if options.timeout else None
    try:
        async with asyncio.timeout(limit_s) as limit:
            record.touched = False  # nothing is done as long as it waits for others
            with watched(record, limit_s):
                async with held(options.locks()):
                    record.touched = None
                    call: Any = definition.function
                    result: R = await call(**arguments)
                    return result
    except (TimeoutError, LockLost) as error:
        if not limit.expired() and not isinstance(error, LockLost):
            raise
        text = str(error) if isinstance(error, LockLost) else f"not done after {limit_s:g} s"
        if record.may_have_happened:
            raise UnknownOutcome(
                f"{text}; its effect may or may not have happened",
                hint="Look at what the step touches before the job is run again.",
            ) from error
        if isinstance(error, LockLost):
            raise
        raise StepTimeout(text) from error


def summary(kind: str, output: Any) -> str:
    """Return an output in a few words, as its step kind says it."""
    model = STEP_KINDS.get(kind, StepBase)
    return model.brief(redact.scrub(output))


def as_json(value: Any) -> Any:
    """Return a value as JSON would hold it; a connection becomes its name."""
    try:
        return _as_json(value)
    except RecursionError:
        return "(deeper than a record goes)"


def _as_json(value: Any) -> Any:
    if isinstance(value, Connection):
        return {"connection": value.connection_name}
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if hasattr(value, "as_json"):
        return value.as_json()
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    return value
