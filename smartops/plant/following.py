"""What the parts of the plant share that follow its line and its faults in the background."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod


class Follower(ABC):
    """A part of the plant with a task of its own, from :meth:`start` to :meth:`stop`."""

    _watch: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background."""
        self._watch = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """End, and leave nothing open."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._leave()

    @abstractmethod
    async def _follow(self) -> None:
        """Do what it does until it is cancelled."""

    @abstractmethod
    async def _leave(self) -> None:
        """Close what is open."""
