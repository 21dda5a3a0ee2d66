"""Lets Prefect's server answer again what failed because another transaction came in between.

On SQLite a transaction that has read, and wants to write when another has written meanwhile, fails
at once: "database is locked". Prefect answers 503, and its client asks again after two seconds.
Nothing of the first try is left then, as its transaction was rolled back: the server may just as
well try again.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request
    from starlette.responses import Response

    Answer = Callable[[Request], Coroutine[Any, Any, Response]]

_PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2)
_AT_ONCE_S = 2.0
"""What failed later than that has waited for the lock already: there is no use in trying again."""


def answer_again() -> None:
    """Put this in place for all routes that are made from now on."""
    # Only Prefect's server has this; whoever imports this module need not load it.
    from prefect.server.utilities.server import PrefectAPIRoute  # noqa: PLC0415

    handler_of = PrefectAPIRoute.get_route_handler

    def get_route_handler(route: Any) -> Answer:
        return _patiently(handler_of(route))

    PrefectAPIRoute.get_route_handler = get_route_handler  # type: ignore[assignment,method-assign]


def _patiently(answer: Answer) -> Answer:
    async def again(request: Request) -> Response:
        for longest_s in _PAUSES_S:
            began = time.monotonic()
            try:
                return await answer(request)
            except Exception as error:
                if not _came_in_between(error) or time.monotonic() > began + _AT_ONCE_S:
                    raise
            await asyncio.sleep(random.uniform(0, longest_s))  # noqa: S311 - not for secrets
        return await answer(request)

    return again


def _came_in_between(error: Exception) -> bool:
    """Return whether SQLite gave up a transaction because of another one."""
    cause = getattr(error, "orig", None)  # SQLAlchemy's name for the driver's own error
    name = getattr(cause, "sqlite_errorname", "")
    return isinstance(cause, sqlite3.OperationalError) and str(name).startswith("SQLITE_BUSY")
