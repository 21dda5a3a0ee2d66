"""A lock among machines that another run holds, which waits for this one: it is used within that.

A run whose step starts a child keeps its locks for both. When it dies, its child goes on: whoever
is next waits for that as well. A child that was handed a hold which has ended is not let in by it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import sqlalchemy as sa

from smartops.audit.lock_places import by_others, mine, use_of
from smartops.audit.lock_tables import lock_place
from smartops.audit.shared_locks import Holding, hold
from smartops.deadline import STANDARD, Deadline
from smartops.errors import LockTimeout


class _Ended(LockTimeout):
    """The hold that was handed on has ended."""


@asynccontextmanager
async def use(resource: str, own: str) -> AsyncIterator[Callable[[], bool] | None]:
    """Use another run's hold; gives what says whether it is lost by now, None where it has ended.

    Raises LockTimeout when the database does not answer for the time that locks are waited for, and
    LockLost in place of whatever went on when the hold may have gone to another.
    """
    is_lost: Callable[[], bool] | None = None
    async with AsyncExitStack() as stack:
        try:
            using = hold(resource, own, Deadline(STANDARD).left_s(), _Use)
            is_lost = await stack.enter_async_context(using)
        except _Ended:
            pass
        yield is_lost


class _Use(Holding):
    """One connection that says that it uses a hold; others are not let in while it lives."""

    def __init__(self, resource: str, own: str, *more: Any) -> None:
        super().__init__(resource, own, *more)
        self._row = use_of(resource, own)

    def _acquire(self) -> bool:
        # First said, then asked: whoever is next looks at this row when all others have gone.
        if not self._return():
            self._give_back()
            raise _Ended(f"the hold of {self.resource} has ended")
        return True

    def _return(self) -> bool:
        if self._do(by_others(self.resource, self.own).limit(1)).first() is None:
            return False
        self._speak()
        return True

    def _give_back(self) -> None:
        self._do(sa.delete(lock_place).where(mine()))
