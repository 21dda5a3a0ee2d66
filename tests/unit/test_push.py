"""When a worker asks for runs: when it is told of one, and when one that it left may begin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid6 import uuid7

from services.push import Expected


async def asked(expected: Expected, hear: Callable[[], object], seen: set[UUID]) -> float:
    """Return after how many seconds it was asked for what ``hear`` tells of."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    done = asyncio.Event()

    async def take() -> None:
        expected.seen(seen)
        done.set()

    asking = asyncio.create_task(expected.ask(take))
    hear()
    await asyncio.wait_for(done.wait(), 30)
    took = loop.time() - began
    asking.cancel()
    return took


async def test_a_run_that_was_left_is_asked_for_when_it_is_due() -> None:
    """Not before, and not only at the next poll; a time that has passed wakes nobody."""
    run, half = uuid7(), timedelta(seconds=0.5)
    expected = Expected()
    took = await asked(expected, lambda: expected.due(run, datetime.now(UTC) + half), {run})
    assert took >= 0.4
    expected = Expected()
    expected.due(run, datetime.now(UTC) - half)
    await asyncio.sleep(0)
    assert not expected._until
