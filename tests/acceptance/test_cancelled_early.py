"""Runs that are cancelled while they begin: what they are in Prefect, from then to their end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.states import Cancelling, Pending, Running

from services.cancelling import Canceller
from services.ending import Endings, Exit
from services.prefect_cancels import CrashProposals
from services.stack import Stack
from services.warm_start import ExecutorHost
from tests.conftest import PREFECT_LEAVES_SOCKETS

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]


@pytest.fixture
async def client(in_stack: Stack) -> AsyncIterator[PrefectClient]:
    async with get_client() as found:
        yield found


@pytest.mark.parametrize(
    ("exit_", "state", "end"),
    [
        (Exit(1), Cancelling(), StateType.CANCELLED),
        (Exit(None), Cancelling(), StateType.CANCELLED),
        (Exit(1, told=True), Cancelling(), StateType.CANCELLING),
        (Exit(0), Cancelling(), StateType.CANCELLING),
        (None, Cancelling(), StateType.CANCELLING),
        (Exit(1), Running(), StateType.RUNNING),
    ],
)
async def test_who_finds_that_it_is_cancelled_and_ends_is_cancelled_at_once(
    client: PrefectClient, exit_: Exit | None, state: State[Any], end: StateType
) -> None:
    """Who was told is ended by those who told it; who has another state has an end of its own."""
    canceller = Canceller(ExecutorHost(), Endings(set), lambda: client)
    run = await _run_in(client, state)
    assert await canceller.settle(run, exit_) is (end is StateType.CANCELLED)
    assert (await client.read_flow_run(run)).state_type is end
    await client.delete_flow_run(run)


@pytest.mark.parametrize(
    ("state", "end"),
    [(Cancelling(), StateType.CANCELLING), (Running(), StateType.CRASHED)],
)
async def test_whose_process_dies_while_it_is_cancelled_has_not_crashed(
    client: PrefectClient, state: State[Any], end: StateType
) -> None:
    """Whoever cancels it gives it its end; it was a crashed one for a moment."""
    run = await _run_in(client, state)
    found = await client.read_flow_run(run)
    await CrashProposals(client=client).propose_crashed(found, "killed by SIGTERM")
    assert (await client.read_flow_run(run)).state_type is end
    await client.delete_flow_run(run)


async def _run_in(client: PrefectClient, state: State[Any]) -> UUID:
    """Return a run without a process that has a state."""
    flow = await client.create_flow_from_name("takes-a-while")
    made = await client.create_deployment(flow, name=os.urandom(4).hex())
    run = (await client.create_flow_run_from_deployment(made)).id
    await client.set_flow_run_state(run, Pending())
    await client.set_flow_run_state(run, state)
    return run
