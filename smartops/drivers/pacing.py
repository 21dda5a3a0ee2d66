"""When the next request may go out on a wire."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from smartops.drivers.wire_notes import OpenQuestion


@dataclass
class Pacing:
    """Keeps the pause between requests, and the quiet that lets a late answer pass."""

    question: OpenQuestion | None
    """For wires on which an answer does not say what it answers; None for others."""
    pause_s: float = 0.0
    """Between an answer and the next request."""
    answer_s: float = 0.0
    """How long an answer is waited for, at the most."""
    late_s: float = 0.0
    """How long an answer may still come after that."""
    _asked_at: float = 0.0
    _not_before: float = 0.0

    async def turn(self) -> None:
        """Wait until the next request may go out."""
        if self.question is not None and not self._not_before and self.question.was_left():
            self._after(self.answer_s + self.late_s)  # nobody knows when it was asked
        await self._until_then()
        self._asked_at = asyncio.get_running_loop().time()
        if self.question is not None:
            self.question.ask()

    def _after(self, seconds: float) -> None:
        self._not_before = asyncio.get_running_loop().time() + seconds

    async def _until_then(self) -> None:
        left_s = self._not_before - asyncio.get_running_loop().time()
        if left_s > 0:
            await asyncio.sleep(left_s)

    def answered(self) -> None:
        """Take note that the answer is there: only the pause has to pass."""
        self._after(self.pause_s)
        if self.question is not None:
            self.question.settle()

    def unanswered(self) -> None:
        """Take note that nobody waits for an answer any more that may still come.

        However early the wait was broken off, the answer may take its whole time.
        """
        if self.question is not None:
            self._not_before = self._asked_at + self.answer_s + self.late_s

    async def quiet(self) -> None:
        """Wait until nothing late can come, before somebody else uses the wire."""
        if self.question is not None and self._not_before:
            await self._until_then()
            self.question.settle()
