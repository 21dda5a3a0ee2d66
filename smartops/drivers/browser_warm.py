"""Keeps browsers warm for the length of a run: one for each way of starting it.

It knows no Playwright, so that whoever might need a browser can import it. What it keeps belongs to
one process and one event loop: a forked child, or code in another loop, starts its own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Protocol


class Running(Protocol):
    """Something that was started, and lives until it is stopped or dies."""

    def lives(self) -> bool:
        """Return whether it can still be used."""

    async def stop(self) -> None:
        """End it, whatever state it is in. It never raises."""


class Pool:
    """What is kept warm by one process, in one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self._running: dict[Hashable, Running] = {}
        self._starting: dict[Hashable, asyncio.Lock] = {}

    def is_ours(self) -> bool:
        """Return whether this code may use it."""
        return self._pid == os.getpid() and self._loop is asyncio.get_running_loop()

    async def get(self, key: Hashable, start: Callable[[], Awaitable[Running]]) -> Running:
        """Return the one that runs; start it where there is none, or where it has died."""
        async with self._starting.setdefault(key, asyncio.Lock()):
            found = self._running.get(key)
            if found is None or not found.lives():
                if found is not None:
                    await found.stop()
                found = self._running[key] = await start()
            return found

    async def close(self) -> None:
        """Stop all."""
        for running in self._running.values():
            await running.stop()
        self._running.clear()


_pool: ContextVar[Pool | None] = ContextVar("smartops_browsers", default=None)


def current() -> Pool | None:
    """Return what is kept warm around this code; it may be another process's or loop's."""
    return _pool.get()


@asynccontextmanager
async def kept_warm() -> AsyncIterator[None]:
    """Let the code within share its browsers; they end with it. Nothing is started before use."""
    outer = _pool.get()
    if outer is not None and outer.is_ours():
        yield
        return
    pool = Pool()
    token = _pool.set(pool)
    try:
        yield
    finally:
        _pool.reset(token)
        await pool.close()


@asynccontextmanager
async def lent(key: Hashable, start: Callable[[], Awaitable[Running]]) -> AsyncIterator[Running]:
    """Give a running one: a warm one within :func:`kept_warm`, else one that ends with this."""
    pool = _pool.get()
    if pool is not None and pool.is_ours():
        yield await pool.get(key, start)
        return
    running = await start()
    try:
        yield running
    finally:
        await running.stop()
