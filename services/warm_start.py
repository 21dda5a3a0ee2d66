"""Starts flow runs in children of the zygote, the way Prefect's own starter starts processes."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

import anyio
import anyio.abc
import psutil
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.settings import get_current_settings
from prefect.utilities.processutils import sanitize_subprocess_env

from services import prefect_cancels
from services.ending import (
    Ending,
    Endings,
    Exit,
    Spent,
    cause_of,
    grace_of,
    kills_for_memory,
)
from services.warm import NotWarm, Nursery
from services.zygote import ENTRYPOINT, RUN_ID, Known, Order

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.runner._control_channel import ControlChannel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How the process of a run is to be."""

    command: str
    """What starts it the cold way."""
    environment: Mapping[str, str | None]
    working_dir: str
    limits: Mapping[str, int]
    quiet: bool
    entrypoint: str | None
    """The installed flow, None where the code has to be fetched first."""
    known: Known
    warm: bool = True
    """Whether a forked child can be such a process."""


@lru_cache(maxsize=1)
def settings_environment() -> dict[str, str]:
    """Return Prefect's settings as this process has them; they do not change while it lives.

    The worker has compared its version with the server's: its runs need not do so again.
    """
    own = get_current_settings().to_environment_variables(exclude_unset=True)
    return {"PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false", **own}


class WarmStarter:
    """Prefect's ``ProcessStarter`` over a :class:`~services.warm.Nursery`.

    Where that has no zygote, the process is started the way Prefect does it.
    """

    def __init__(
        self,
        nursery: Nursery,
        control: ControlChannel,
        recipe: Recipe,
        endings: Endings,
        ended: Callable[[Exit], object],
    ) -> None:
        self._nursery = nursery
        self._control = control
        self._recipe = recipe
        self._endings = endings
        self._ended = ended
        """Told as soon as nothing is left of the run, before Prefect is."""

    async def start(
        self,
        flow_run: FlowRun,
        task_status: anyio.abc.TaskStatus[ProcessHandle] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Start a process for the run, and wait until it has ended."""
        if not self._recipe.warm:
            await self._start_cold(flow_run, task_status)
            return
        order = Order(
            flow_run.model_dump_json(),
            self._whole_environment(flow_run),
            self._recipe.working_dir,
            dict(self._recipe.limits),
            self._recipe.known,
            self._recipe.quiet,
        )
        try:
            child = await self._nursery.fork(order)
        except NotWarm as error:
            self._control.unregister(flow_run.id)
            logger.warning("run %s is started the cold way: %s", flow_run.id, error)
            await self._start_cold(flow_run, task_status)
            return
        except BaseException:
            self._control.unregister(flow_run.id)
            raise
        kills = kills_for_memory()
        handle = ProcessHandle(child)  # type: ignore[arg-type]
        ending = self._begin(flow_run, handle)
        task_status.started(handle)
        await child.wait()
        await self._over(ending, handle, Spent(child.cpu_s, kills_for_memory() > kills))

    def _begin(self, flow_run: FlowRun, handle: ProcessHandle) -> Ending:
        ending = Ending(flow_run.id, grace_of(flow_run))
        handle.termination_scope = ending
        if handle.pid is not None:
            self._endings.begin(ending, handle.pid)
        return ending

    async def _over(self, ending: Ending, handle: ProcessHandle, spent: Spent) -> None:
        swept = await self._endings.over(ending, handle.pid or 0)
        status = handle.returncode
        cause = cause_of(status, spent, self._recipe.limits.get("CPU"), ending.told_why)
        self._ended(Exit(status, cause, swept, ending.told))

    async def _start_cold(
        self, flow_run: FlowRun, task_status: anyio.abc.TaskStatus[ProcessHandle]
    ) -> None:
        cold = EngineCommandStarter(
            command=self._recipe.command,
            cwd=self._recipe.working_dir,
            env=dict(self._recipe.environment),
            stream_output=not self._recipe.quiet,
            control_channel=self._control,
            isolate_process_group=True,
        )
        kills = kills_for_memory()
        limited: Any = _Limited(task_status, self._recipe.limits, flow_run, self._begin)
        await cold.start(flow_run, limited)
        if limited.ending is not None:
            spent = Spent(0.0, kills_for_memory() > kills)
            await self._over(limited.ending, limited.handle, spent)

    def _whole_environment(self, flow_run: FlowRun) -> dict[str, str]:
        """Return what Prefect's own starter would give a process, in the same order."""
        own: dict[str, str | None] = {
            **os.environ,
            **self._recipe.environment,
            **settings_environment(),
            RUN_ID: str(flow_run.id),
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",
            ENTRYPOINT: self._recipe.entrypoint,
        }
        with suppress(RuntimeError):  # without a channel, cancelling goes by signals alone
            port, token = self._control.register(flow_run.id)
            own |= {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}
        return sanitize_subprocess_env(own)


class _Limited:
    """Gives a process that is no fork its limits and its ending, as soon as it is there."""

    ending: Ending | None = None
    handle: ProcessHandle | None = None

    def __init__(
        self,
        inner: anyio.abc.TaskStatus[ProcessHandle],
        limits: Mapping[str, int],
        flow_run: FlowRun,
        begin: Callable[[FlowRun, ProcessHandle], Ending],
    ) -> None:
        self._inner = inner
        self._limits = limits
        self._flow_run = flow_run
        self._begin = begin

    def started(self, handle: ProcessHandle) -> None:
        """Set the limits, and pass the word on."""
        self.handle, self.ending = handle, self._begin(self._flow_run, handle)
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(handle.pid)
            for name, limit in self._limits.items():
                number = getattr(psutil, f"RLIMIT_{name}")
                _, most = process.rlimit(number)
                allowed = limit if most < 0 else min(limit, most)
                process.rlimit(number, (allowed, allowed))
        self._inner.started(handle)


class ExecutorHost:
    """Keeps what Prefect needs to look after runs open: one for all runs, not one for each.

    When its stream of events is lost for good it would poll from then on, and a cancelled run
    would end many seconds later: it is then made anew, for the runs to come.
    """

    def __init__(self) -> None:
        self._current: _Held | None = None
        self._turn = asyncio.Lock()
        self._all: set[_Held] = set()

    @asynccontextmanager
    async def context(self) -> AsyncIterator[FlowRunExecutorContext]:
        """Give the machinery for one run."""
        async with self._turn:
            if self._current is None or not self._current.is_well():
                if self._current is not None:
                    self._current.leave_when_unused()
                self._current = made = _Held()
                self._all.add(made)
                made.task.add_done_callback(lambda _task: self._all.discard(made))
                await made.opened
            held = self._current
            held.users += 1
        try:
            yield held.opened.result()
        finally:
            held.users -= 1
            held.leave_if_unused()

    def of(self, run: UUID) -> FlowRunExecutorContext | None:
        """Return the machinery that looks after a run, None where that has no process."""
        for held in self._all:
            if held.opened.done() and held.opened.exception() is None:
                context = held.opened.result()
                if context.process_manager.get(run) is not None:
                    return context
        return None

    async def close(self) -> None:
        """Close it; what still runs is ended by it."""
        for held in self._all:
            held.leave.set()
        await asyncio.gather(*(held.task for held in self._all), return_exceptions=True)
        self._all.clear()
        self._current = None


class _Held:
    """One of Prefect's contexts, open in a task of its own: it must close where it was opened."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[FlowRunExecutorContext] = asyncio.Future()
        self.leave = asyncio.Event()
        self.users = 0
        self._old = False
        self.task = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        try:
            async with FlowRunExecutorContext() as context:
                prefect_cancels.put_in_place(context)
                self.opened.set_result(context)
                await self.leave.wait()
        except BaseException as error:
            if not self.opened.done():
                self.opened.set_exception(error)
                return
            logger.exception("what looks after the runs has failed, and is made anew")

    def is_well(self) -> bool:
        """Return whether it hears at once when a run is cancelled."""
        if self.task.done():
            return False
        return self.opened.result()._observer._polling_task is None

    def leave_when_unused(self) -> None:
        """Close it after the last run that it looks after."""
        self._old = True
        self.leave_if_unused()

    def leave_if_unused(self) -> None:
        """Close it, if it is not wanted any more."""
        if self._old and not self.users:
            self.leave.set()
