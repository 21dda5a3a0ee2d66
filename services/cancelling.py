"""Cancels runs that have a process: when their worker ends, and when Prefect's word was missed.

Prefect tells of a cancelled run once, and only such runs are looked for that have a process by
then; one that is cancelled while its process is starting would go on for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Cancelling

from services.ending import Endings, Exit
from services.warm_start import ExecutorHost

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

logger = logging.getLogger(__name__)
_LOOK_S = 2.0
_ANSWER_S = 5.0
_ENDED = frozenset({StateType.CANCELLED})
_OWN_END_S = 10.0
"""How long the process of a run may live that has told Prefect its end."""
_NO_ANSWER = (httpx.HTTPError, ObjectNotFound, TimeoutError)
"""Prefect is away, or knows the run no more: somebody has deleted it."""


class Canceller:
    """Cancels runs of one worker, in the order that Prefect keeps: told, ended, hooks, state."""

    def __init__(
        self, host: ExecutorHost, endings: Endings, client: Callable[[], PrefectClient]
    ) -> None:
        self._host = host
        self._endings = endings
        self._client = client
        self._beside: set[asyncio.Task[None]] = set()
        self._ended: dict[UUID, float] = {}
        """Runs that are over in Prefect, and their process is not; since when that is known."""

    async def cancel_all(self, runs: Collection[UUID]) -> None:
        """Cancel runs because their worker ends; return when they have no process."""
        done = await asyncio.gather(
            *(self._cancel(run, "its worker was stopped") for run in runs), return_exceptions=True
        )
        for run, error in zip(runs, done, strict=True):
            if isinstance(error, Exception):  # the others end, and the worker after them
                logger.error("run %s could not be cancelled", run, exc_info=error)

    async def settle(self, run: UUID, ended: Exit | None) -> bool:
        """Give a run that is being cancelled its end, where nobody is left to be told; return that.

        So it is where its process has found by itself that it is cancelled, or could not be made.
        """
        if ended is None or ended.status == 0 or ended.told:
            return False
        client = self._client()
        try:
            async with asyncio.timeout(_ANSWER_S):
                found = await client.read_flow_run(run)
                if found.state is not None and found.state.is_cancelling():
                    state: State[Any] = Cancelled(message="it was cancelled before it began")
                    await client.set_flow_run_state(run, state)
                    return True
        except _NO_ANSWER as error:  # the reconciler gives it its end
            logger.debug("it cannot be seen whether run %s is cancelled: %s", run, error)
        return False

    async def watch(self) -> None:
        """Cancel what Prefect has as being cancelled, and nobody has told; never returns."""
        while True:
            await asyncio.sleep(_LOOK_S)
            untold = [run for run, (_, ending) in self._endings.alive.items() if not ending.told]
            if not untold:
                continue
            try:
                found = await _cancelled(self._client(), untold)
                now = asyncio.get_running_loop().time()
            except _NO_ANSWER as error:
                logger.debug("it cannot be seen what is to be cancelled: %s", error)
                continue
            self._ended = {run: self._ended.get(run, now) for run, kind in found if kind in _ENDED}
            for run, kind in found:
                pid, ending = self._endings.alive.get(run, (0, None))
                if kind is StateType.CANCELLING:
                    self._do(self._cancel(run, "", known=True))
                elif ending is not None and now - self._ended[run] >= _OWN_END_S:
                    logger.warning("run %s goes on, and in Prefect it is cancelled: ended", run)
                    self._do(ending.cancel(pid))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _cancel(self, run: UUID, message: str, *, known: bool = False) -> None:
        """End a run; where Prefect is away or does not know it, its process all the same."""
        pid, ending = self._endings.alive.get(run, (0, None))
        context = self._host.of(run)
        if ending is None or ending.told or context is None:
            return
        try:
            async with asyncio.timeout(_ANSWER_S):
                if not known:
                    state: State[Any] = Cancelling(message=message)
                    await context.client.set_flow_run_state(run, state, force=True)
                flow_run = await context.client.read_flow_run(run)
        except _NO_ANSWER as error:
            logger.warning("run %s is ended, and Prefect cannot be told: %s", run, error)
            await ending.cancel(pid)
            return
        if flow_run.state is not None and flow_run.state.is_cancelling():
            await context._cancellation_manager.cancel(flow_run, state_msg=message or None)


async def _cancelled(
    client: PrefectClient, runs: Collection[UUID]
) -> list[tuple[UUID, StateType | None]]:
    types = FlowRunFilterStateType(any_=[StateType.CANCELLING, *_ENDED])
    wanted = FlowRunFilter(
        id=FlowRunFilterId(any_=list(runs)), state=FlowRunFilterState(type=types)
    )
    found = await client.read_flow_runs(flow_run_filter=wanted)
    return [(run.id, run.state_type) for run in found]
