"""How a worker ends: it takes nothing more, lets its runs end, gives back what it has not begun.

The first SIGTERM (or Ctrl-C) begins that; a second one, or the limit, cancels the runs that are
left, which take back what can be undone. The worker ends when nothing of them is alive, with 0.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable, Collection
from uuid import UUID

logger = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOK_S = 0.1
_AGAIN_S = 5.0


class Drain:
    """What a worker does from its first signal on."""

    def __init__(
        self,
        limit_s: float,
        under_way: Callable[[], Collection[UUID]],
        cancel: Callable[[Collection[UUID]], Awaitable[None]],
    ) -> None:
        self._limit_s = limit_s
        self._under_way = under_way
        """The runs that the worker has taken and that are not over."""
        self._cancel = cancel
        self._begun = False
        self._hurry = asyncio.Event()
        self._main: asyncio.Task[object] | None = None
        self._draining: asyncio.Task[None] | None = None

    def listen(self) -> None:
        """Take the signals from Prefect's command, which would end the worker at once.

        In a program of somebody else's, signals are that program's to hear.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        handler = getattr(signal.getsignal(signal.SIGTERM), "__qualname__", "")
        if not handler.startswith("forward_signal_handler"):
            return
        self._main = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.told)

    def has_begun(self) -> bool:
        """Return whether the worker takes no runs any more."""
        return self._begun

    def told(self) -> None:
        """Begin, or hurry where it was begun."""
        if self._begun:
            self._hurry.set()
            return
        self._begun = True
        self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        count = len(self._under_way())
        if count:
            logger.warning(
                "no more runs are taken; %s may go on for %g s, and are cancelled then or by "
                "another signal",
                f"{count} runs" if count > 1 else "1 run",
                self._limit_s,
            )
        if not await self._empty(self._limit_s, until=self._hurry):
            left = list(self._under_way())
            logger.warning("cancelled: %s", ", ".join(map(str, left)))
            await self._cancel(left)
            while not await self._empty(_AGAIN_S):
                left = list(self._under_way())
                logger.warning("waiting for the end of %s", ", ".join(map(str, left)))
                await self._cancel(left)  # those that have a process by now
        if self._main is not None:
            self._main.cancel()

    async def _empty(self, limit_s: float, until: asyncio.Event | None = None) -> bool:
        """Wait until no run is under way; return whether that is so, and not just the time over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limit_s
        while self._under_way():
            if loop.time() >= deadline or (until is not None and until.is_set()):
                return False
            await asyncio.sleep(_LOOK_S)
        return True
