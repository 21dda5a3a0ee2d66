"""Two cancels of one run at once: its process is told to end, whoever of them does it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun
from prefect.runner._cancellation_manager import CancellationManager
from prefect.runner._control_channel import ControlChannel

from services.ending import CancelsInTurn


class _Processes:
    """Knows one process, and notes that it was killed."""

    pid = 1

    def __init__(self) -> None:
        self.killed = 0

    def get(self, run: object) -> _Processes:
        """Return the process of a run."""
        return self

    async def kill(self, run: object, grace_seconds: float = 30) -> None:
        """End it."""
        self.killed += 1
        raise RuntimeError("no further: only who kills is asked here")


class _Answered(asyncio.Event):
    """Lets a second cancel come at the moment at which the first has its answer."""

    second: Any = None
    task: asyncio.Task[None] | None = None

    def set(self) -> None:
        """Note the answer."""
        super().set()
        if self.task is None:
            self.task = asyncio.ensure_future(self.second())


async def test_the_process_is_killed_although_two_cancel_it() -> None:
    """The second, which comes with the answer to the first, does not take that from it."""
    processes: Any = _Processes()
    unused: Any = None
    run = FlowRun(id=uuid4(), flow_id=uuid4())
    async with ControlChannel() as channel:
        port, token = channel.register(run.id)
        manager: Any = CancellationManager(
            process_manager=processes,
            hook_runner=unused,
            state_proposer=unused,
            event_emitter=unused,
            client=unused,
            control_channel=channel,
        )
        manager.cancel = CancelsInTurn(manager)
        registered = channel._registrations[run.id]
        registered.intent_acked = answered = _Answered()
        answered.second = lambda: manager.cancel(run)

        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(token.encode() + b"\n")
        await asyncio.wait_for(registered.connected.wait(), 30)
        first = asyncio.create_task(manager.cancel(run))
        await asyncio.wait_for(reader.readexactly(1), 30)
        writer.write(b"a")
        await asyncio.wait_for(first, 30)
        assert answered.task is not None
        await asyncio.wait_for(answered.task, 30)
        writer.close()
        await writer.wait_closed()
    assert processes.killed == 1
