"""Work that goes on as long as its process: no error that nobody thought of ends it unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)
_REST_S = 5.0


async def lasting(
    what: str, work: Callable[[], Awaitable[None]], *, rest_s: float = _REST_S
) -> None:
    """Do what has no end of its own; where it ends by an error, say so and begin anew."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("%s has failed, and begins anew", what)
        await asyncio.sleep(rest_s)
