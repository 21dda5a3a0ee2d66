"""What Prefect's cancelling needs so that no cancelled run is a crashed one, even for a moment.

Who is told of crashes would be told of it. Prefect has three gaps: two cancels at once, a signal
that comes before the process listens for what it means, and a process that is gone before the one
who cancelled it has given the run its end.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakValueDictionary

import httpx
from prefect.exceptions import ObjectNotFound
from prefect.runner._state_proposer import StateProposer

from services.ending import Ending

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.runner._cancellation_manager import CancellationManager
    from prefect.runner._flow_run_executor import FlowRunExecutorContext
    from prefect.runner._process_manager import ProcessHandle, ProcessManager

logger = logging.getLogger(__name__)
_LISTENS_S = 5.0
"""How long a process that has just begun is waited for until it listens."""
_ACK_S = 5.0
"""How long it may take to say that it has heard: on a busy machine longer than Prefect's second."""


def put_in_place(context: FlowRunExecutorContext) -> None:
    """Let what Prefect has opened to look after runs cancel them in this way."""
    manager: Any = context._cancellation_manager
    manager._process_manager = Kills(context.process_manager)
    manager._control_channel._ack_timeout = _ACK_S
    manager.cancel = CancelsInTurn(manager)
    context._state_proposer = CrashProposals(client=context.client)


class Kills:
    """What Prefect's cancelling asks of the processes of runs, with each run's own time to end."""

    def __init__(self, processes: ProcessManager) -> None:
        self._processes = processes

    def get(self, run: UUID) -> ProcessHandle | None:
        """Return the process of a run."""
        return self._processes.get(run)

    def flow_run_ids(self) -> set[UUID]:
        """Return the runs that have a process."""
        return self._processes.flow_run_ids()

    async def kill(self, run: UUID, grace_seconds: float = 30, *, force: bool = False) -> None:
        """End the process of a run."""
        handle = self.get(run)
        scope = handle.termination_scope if handle is not None else None
        if handle is None or handle.pid is None or force or not isinstance(scope, Ending):
            await self._processes.kill(run, grace_seconds, force=force)
            return
        await scope.cancel(handle.pid)


class CancelsInTurn:
    """Prefect's cancelling of a run, one call at a time; others wait, and find it done.

    Of two calls at once, each can take the other for the one that ends the process: the second to
    ask clears the answer that the first is waiting for, and both return with the process alive.
    """

    def __init__(self, manager: CancellationManager) -> None:
        self._cancel = manager.cancel
        self._processes: Any = manager._process_manager
        self._channel: Any = manager._control_channel
        self._turns: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, flow_run: FlowRun, state_msg: str | None = None) -> None:
        """End the run's process, call its hooks, and tell Prefect its end."""
        turn = self._turns.setdefault(flow_run.id, asyncio.Lock())
        async with turn:
            if self._processes.get(flow_run.id) is not None:
                await self._until_it_listens(flow_run.id)
            await self._cancel(flow_run, state_msg=state_msg)

    async def _until_it_listens(self, run: UUID) -> None:
        """Wait until the run's process can be told why it is ended, or has ended.

        It takes the signal a moment before that already, and would call itself crashed.
        """
        registered = self._channel._registrations.get(run)
        if registered is None:
            return
        events = [
            asyncio.create_task(event.wait())
            for event in (registered.connected, registered.disconnected)
        ]
        try:
            await asyncio.wait(events, timeout=_LISTENS_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()


class CrashProposals(StateProposer):
    """Prefect's, but for a run that is being cancelled: the one who cancels it gives it its end."""

    async def propose_crashed(self, flow_run: FlowRun, message: str) -> State[Any] | None:
        """Tell Prefect that a run has crashed, unless it is being cancelled."""
        with suppress(httpx.HTTPError, ObjectNotFound):
            found = await self._client.read_flow_run(flow_run.id)
            if found.state is not None and found.state.is_cancelling():
                logger.info("run %s is being cancelled: %s", flow_run.id, message)
                return None
        return await super().propose_crashed(flow_run, message)
