"""Lets the process of a run wait for Prefect's server, however long that is away.

Prefect's client gives up after a minute. A run that had just begun was crashed then, and one that
had done all its work was failed, as that it was completed could not be told in time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import httpx
from prefect.client.orchestration.base import BaseAsyncClient, BaseClient
from prefect.exceptions import PrefectHTTPStatusError

logger = logging.getLogger(__name__)
_AWAY = (
    httpx.ConnectError,
    httpx.TimeoutException,
    httpx.ReadError,
    httpx.WriteError,
    httpx.RemoteProtocolError,
)
_AWAY_STATUS = {502, 503, 504}
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 5.0


def wait_for_prefect() -> None:
    """Let each request of this process wait until the server answers. What it answers counts."""
    ask, ask_in_loop = BaseClient.request, BaseAsyncClient.request

    def request(client: Any, *args: Any, **kwargs: Any) -> Any:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return ask(client, *args, **kwargs)
            except (*_AWAY, PrefectHTTPStatusError) as error:
                pause_s = _next(pause_s, error)
            time.sleep(pause_s)

    async def request_in_loop(client: Any, *args: Any, **kwargs: Any) -> Any:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await ask_in_loop(client, *args, **kwargs)
            except (*_AWAY, PrefectHTTPStatusError) as error:
                pause_s = _next(pause_s, error)
            await asyncio.sleep(pause_s)

    BaseClient.request = request  # type: ignore[assignment,method-assign]
    BaseAsyncClient.request = request_in_loop  # type: ignore[assignment,method-assign]


def _next(pause_s: float, error: Exception) -> float:
    """Return how long to wait for the next try. Raises what is an answer."""
    if isinstance(error, PrefectHTTPStatusError) and error.response.status_code not in _AWAY_STATUS:
        raise error
    if pause_s == _FIRST_PAUSE_S:
        logger.warning("Prefect's server is away (%s): waiting for it", type(error).__name__)
    return min(2 * pause_s, _LONGEST_PAUSE_S)
