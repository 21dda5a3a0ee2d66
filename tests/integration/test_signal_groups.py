"""A run that is cancelled while it connects is cancelled, and not crashed."""

from __future__ import annotations

import signal

import anyio
import pytest
from prefect import flow_engine
from prefect.exceptions import TerminationSignal

from services import signal_groups
from services.signal_groups import is_signal


async def _grouped(*errors: BaseException) -> BaseException:
    async def fail(error: BaseException) -> None:
        raise error

    try:
        async with anyio.create_task_group() as group:
            for error in errors:
                group.start_soon(fail, error)
    except BaseExceptionGroup as grouped:
        return grouped
    raise AssertionError("nothing failed")


def _stopped() -> TerminationSignal:
    return TerminationSignal(signal.SIGTERM)


async def test_what_is_the_signal() -> None:
    """Alone in its group, also in groups of groups; not beside another error, not without it."""
    alone = await _grouped(_stopped())
    assert is_signal(alone)
    assert is_signal(await _grouped(alone, _stopped()))
    assert not is_signal(await _grouped(_stopped(), OSError("the disk is full")))
    assert not is_signal(await _grouped(OSError("the disk is full")))
    assert not is_signal(_stopped())  # the engine knows it as it is


async def test_the_engine_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "_is_async_runtime_cancellation"
    monkeypatch.setattr(flow_engine, name, getattr(flow_engine, name))
    alone = await _grouped(_stopped())
    assert not flow_engine._is_async_runtime_cancellation(alone)
    signal_groups.know_signals_in_groups()
    assert flow_engine._is_async_runtime_cancellation(alone)
    assert not flow_engine._is_async_runtime_cancellation(OSError())
