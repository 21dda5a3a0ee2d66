"""Lets Prefect's server answer again what failed because another transaction came in between.

On SQLite a transaction that has read, and wants to write when another has written meanwhile, fails
at once: "database is locked". Prefect answers 503, and its client asks again after two seconds.
Nothing of the first try is left then, as its transaction was rolled back: the server may just as
well try again. The next try asks for the right to write before it reads: then no other can come in
between, however many there are.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from starlette.requests import Request
    from starlette.responses import Response

    Answer = Callable[[Request], Coroutine[Any, Any, Response]]

_PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2)
_AT_ONCE_S = 20.0
"""What failed later than that has waited for the lock already: there is no use in trying again."""


@dataclass
class _Try:
    """One more try to answer a request, whose transactions may write from their beginning."""

    task: asyncio.Task[Any] | None
    is_open: bool = False
    """Whether one of its transactions is open."""


_TRY: ContextVar[_Try | None] = ContextVar("this_try", default=None)


class _SecondTransactionError(Exception):
    """A transaction began within one that holds the lock: it would wait for itself."""


def answer_again() -> None:
    """Put this in place for all routes that are made from now on."""
    # Only Prefect's server has these; whoever imports this module need not load them.
    from prefect.server.database.configurations import AioSqliteConfiguration  # noqa: PLC0415
    from prefect.server.utilities.server import PrefectAPIRoute  # noqa: PLC0415

    handler_of = PrefectAPIRoute.get_route_handler

    def get_route_handler(route: Any) -> Answer:
        return _patiently(handler_of(route))

    begin = AioSqliteConfiguration.begin_transaction

    @asynccontextmanager
    async def begin_transaction(
        self: Any, session: Any, with_for_update: bool = False
    ) -> AsyncIterator[Any]:
        this = _TRY.get()
        # What the request leaves behind in tasks of its own is not part of the try.
        if this is None or this.task is not asyncio.current_task():
            async with begin(self, session, with_for_update=with_for_update) as transaction:
                yield transaction
            return
        if this.is_open:
            raise _SecondTransactionError
        this.is_open = True
        try:
            async with begin(self, session, with_for_update=True) as transaction:
                yield transaction
        finally:
            this.is_open = False

    PrefectAPIRoute.get_route_handler = get_route_handler  # type: ignore[assignment,method-assign]
    AioSqliteConfiguration.begin_transaction = begin_transaction  # type: ignore[method-assign]


def _patiently(answer: Answer) -> Answer:
    async def again(request: Request) -> Response:
        this: _Try | None = None
        may_hold = True
        for longest_s in _PAUSES_S:
            began = time.monotonic()
            token = _TRY.set(this)
            try:
                return await answer(request)
            except _SecondTransactionError:
                may_hold = False
            except Exception as error:
                if not _came_in_between(error) or time.monotonic() > began + _AT_ONCE_S:
                    raise
            finally:
                _TRY.reset(token)
            this = _Try(asyncio.current_task()) if may_hold else None
            await asyncio.sleep(random.uniform(0, longest_s))  # noqa: S311 - not for secrets
        return await answer(request)

    return again


def _came_in_between(error: Exception) -> bool:
    """Return whether SQLite gave up a transaction because of another one."""
    cause = getattr(error, "orig", None)  # SQLAlchemy's name for the driver's own error
    name = getattr(cause, "sqlite_errorname", "")
    return isinstance(cause, sqlite3.OperationalError) and str(name).startswith("SQLITE_BUSY")
