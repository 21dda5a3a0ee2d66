"""1,000 requests over kept connections, beside bare httpx: one after the other, and ten at once.

Ours are made as steps make them: the service is opened for each, its breaker is asked, its address
is checked, the answer is read within its limit. The peer is one httpx client that stays open, which
reads the answer and parses its JSON.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from benchmarks import rest_server
from smartops.drivers import rest
from smartops.drivers.quarantine import Patience
from smartops.settings import get_settings

REQUESTS, ROUNDS, AT_ONCE = 1000, 7, 10
_TOKEN = "bench-token-1234"  # noqa: S105 - it guards nothing
Get = Callable[[], Awaitable[Any]]


def run(home: str) -> dict[str, Any]:
    """Return the seconds for 1,000 requests in both ways, and the ratios of the fastest rounds.

    What else the machine does only adds to a round; ``ratio_of_medians`` has that in it.
    """
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    with rest_server.running() as url:
        samples = asyncio.run(_measure(url))
    medians = {name: statistics.median(times) for name, times in samples.items()}
    fastest = {name: min(times) for name, times in samples.items()}
    return {
        "ratio_to_bare_library": fastest["smartops"] / fastest["httpx"],
        "ratio_at_10_at_once": fastest["smartops_at_once"] / fastest["httpx_at_once"],
        "ratio_of_medians": medians["smartops"] / medians["httpx"],
        **{f"{name}_requests_per_s": REQUESTS / best for name, best in fastest.items()},
        "n": REQUESTS,
        "rounds": ROUNDS,
        "samples": samples,
    }


async def _measure(url: str) -> dict[str, list[float]]:
    service = rest.Connection("bench", url, token=_TOKEN, patience=Patience(after=5))
    headers = {"authorization": f"Bearer {_TOKEN}"}
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
    times: dict[str, list[float]] = {}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, trust_env=False, limits=limits, timeout=10
    ) as client:

        async def ours() -> Any:
            async with rest.open_service(service) as driver:
                return (await driver.request("GET", "/orders")).body

        async def theirs() -> Any:
            answer = await client.get("/orders")
            answer.raise_for_status()
            return answer.json()

        for get in (ours, theirs):
            assert await get() == rest_server.BODY  # noqa: S101
        for _ in range(ROUNDS):
            for name, get in (("smartops", ours), ("httpx", theirs)):
                times.setdefault(name, []).append(await _timed(get, 1))
                times.setdefault(f"{name}_at_once", []).append(await _timed(get, AT_ONCE))
    return times


async def _timed(get: Get, at_once: int) -> float:
    async def some() -> None:
        for _ in range(REQUESTS // at_once):
            await get()

    began = time.perf_counter()
    await asyncio.gather(*(some() for _ in range(at_once)))
    return time.perf_counter() - began
