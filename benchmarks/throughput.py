"""Two-step runs per minute: what one worker gets done of a burst, and what ours holds.

Held is a rate of runs coming in, one after the other, of which 95 % start within a second. The
stock worker starts none so soon: it holds no rate, and is measured by its burst alone.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks.measuring import percentile
from benchmarks.workers import (
    TWO_STEPS,
    both_workers,
    create,
    deployments,
    ended,
    rounds,
)

BURST = 40
RATES = (30, 60, 90, 120, 150, 180, 240, 300)
FOR_S = 30.0
SOON_S = 1.0


def run(home: str) -> dict[str, Any]:
    """Return the runs per minute of both."""
    with both_workers(home):
        return asyncio.run(_measure(rounds(BURST)))


async def _measure(burst: int) -> dict[str, Any]:
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - see workers.py

    async with get_client() as client:
        both = await deployments(client)
        done = {name: await _burst(client, both[name], burst) for name in both}
        held, starts = 0, {}
        for rate in RATES:
            starts[rate] = await _starts(client, both["smartops"], rate)
            if percentile(starts[rate], 0.95) >= SOON_S:
                break
            held = rate
    return {
        "stock_runs_per_min": done["stock"],
        "smartops_runs_per_min": done["smartops"],
        "ratio": done["smartops"] / done["stock"],
        "smartops_held_per_min": held,
        "start_p95": {str(rate): percentile(found, 0.95) for rate, found in starts.items()},
        "n": burst,
        "samples": starts,
    }


async def _burst(client: Any, deployment: Any, count: int) -> float:
    """Return how many runs per minute are done of a burst that comes at once."""
    began = time.monotonic()
    made = [await create(client, deployment, TWO_STEPS) for _ in range(count)]
    for run_id in made:
        await ended(client, run_id)
    return 60 * count / (time.monotonic() - began)


async def _starts(client: Any, deployment: Any, rate: int) -> list[float]:
    """Return the seconds from creation to Running, of runs that come in at a rate per minute."""
    made: list[asyncio.Task[Any]] = []
    began = time.monotonic()
    for number in range(int(rate * FOR_S / 60)):
        await asyncio.sleep(max(0.0, began + number * 60 / rate - time.monotonic()))
        made.append(asyncio.create_task(create(client, deployment, TWO_STEPS)))
    found = [await ended(client, await one) for one in made]
    return [(one.start_time - one.created).total_seconds() for one in found]
