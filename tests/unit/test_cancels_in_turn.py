"""Two cancels of one run at once: its process is told to end, whoever of them does it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import uuid4

import pytest
from prefect._internal.attempt_control import BYTE_FOR_INTENT
from prefect.client.schemas.objects import FlowRun
from prefect.runner._cancellation_manager import CancellationManager
from prefect.runner._control_channel import ControlChannel

from services import prefect_cancels
from services.prefect_cancels import CancelsInTurn


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


@asynccontextmanager
async def a_run() -> AsyncIterator[tuple[Any, FlowRun, _Processes, ControlChannel]]:
    """Give what cancels a run, the run, its process, and the channel on which that is told."""
    processes, unused = _Processes(), cast(Any, None)
    run = FlowRun(id=uuid4(), flow_id=uuid4())
    async with ControlChannel() as channel:
        manager: Any = CancellationManager(
            process_manager=cast(Any, processes),
            hook_runner=unused,
            state_proposer=unused,
            event_emitter=unused,
            client=unused,
            control_channel=channel,
        )
        manager.cancel = CancelsInTurn(manager)
        yield manager, run, processes, channel


async def test_the_process_is_killed_although_two_cancel_it() -> None:
    """The second, which comes with the answer to the first, does not take that from it."""
    async with a_run() as (manager, run, processes, channel):
        port, token = channel.register(run.id)
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


async def test_a_process_that_does_not_listen_yet_is_told_why_it_is_ended() -> None:
    """It has the handler of the signal by then, and would call itself crashed without it."""
    async with a_run() as (manager, run, processes, channel):
        port, token = channel.register(run.id)
        cancelling = asyncio.create_task(manager.cancel(run))
        await asyncio.wait({cancelling}, timeout=0.2)
        assert processes.killed == 0
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(token.encode() + b"\n")
        assert await asyncio.wait_for(reader.readexactly(1), 30) == BYTE_FOR_INTENT["cancel"]
        writer.write(b"a")
        await asyncio.wait_for(cancelling, 30)
        writer.close()
        await writer.wait_closed()
    assert processes.killed == 1


@pytest.mark.parametrize("ends", [True, False])
async def test_a_process_that_never_listens_is_ended_all_the_same(
    monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """As soon as it has ended, or when it should have listened long since."""
    monkeypatch.setattr(prefect_cancels, "_LISTENS_S", 300.0 if ends else 0.1)
    async with a_run() as (manager, run, processes, channel):
        channel.register(run.id)
        cancelling = asyncio.create_task(manager.cancel(run))
        await asyncio.wait({cancelling}, timeout=0.2)
        if ends:
            channel.unregister(run.id)
        await asyncio.wait_for(cancelling, 30)
    assert processes.killed == 1
