"""What goes on as long as its process does not end because of one error."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from services.lasting import lasting
from services.push import Expected


async def test_runs_are_taken_by_push_after_an_error_that_nobody_thought_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told, and what was expected by then is asked for again."""
    expected, taken = Expected(), asyncio.Event()
    asked = 0

    async def take() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise RuntimeError("nobody thought of this")
        expected.seen([run])
        taken.set()

    run = uuid4()
    expected.heard(run)
    push = asyncio.create_task(lasting("push", lambda: expected.ask(take), rest_s=0.01))
    await asyncio.wait_for(_heard_again(expected, taken), 30)
    push.cancel()
    assert "push has failed, and begins anew" in caplog.text
    assert "nobody thought of this" in caplog.text


async def _heard_again(expected: Expected, taken: asyncio.Event) -> None:
    """Let Prefect tell of something until it has been asked again."""
    while not taken.is_set():
        await asyncio.sleep(0.01)
        expected.heard(None)
