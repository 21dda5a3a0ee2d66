"""From "run now" to the first step's first line: our worker beside Prefect's process worker.

Idle, and with twenty other runs going on, each of which begins a step every five seconds. 200 runs
each take a while, as the peer is slow: ``BENCH_RUNS=20`` gives a quick look.
"""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.measuring import summary
from benchmarks.workers import (
    ONE_STEP,
    both_workers,
    create,
    deployments,
    rounds,
    seconds_to_first_line,
)

RUNS = 200
OTHERS = 20
_TELL_EVERY = 25
GOING_ON = {
    "name": "going-on",
    "steps": [
        {
            "id": "tick",
            "kind": "wait",
            "duration": "5s",
            "foreach": list(range(1000)),
            "max_parallel": 1,
        }
    ],
}


def run(home: str) -> dict[str, Any]:
    """Return p50, p95, p99 in seconds for both, interleaved on one server, and their ratios."""
    with both_workers(home):
        return asyncio.run(_measure(rounds(RUNS)))


async def _measure(runs: int) -> dict[str, Any]:
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - see workers.py

    async with get_client() as client:
        both = await deployments(client)
        idle = await _interleaved(client, both, runs, "idle")
        others = [await create(client, both["smartops"], GOING_ON) for _ in range(OTHERS)]
        await _under_way(client, others)
        busy = await _interleaved(client, both, runs, f"with {OTHERS} others")
        await _cancel(client, others)
    return {
        "stock": summary(idle["stock"]),
        "smartops": summary(idle["smartops"]),
        "ratio_p50": _ratio(idle),
        "stock_busy": summary(busy["stock"]),
        "smartops_busy": summary(busy["smartops"]),
        "ratio_p50_busy": _ratio(busy),
        "n": runs,
        "samples": {"idle": idle, "busy": busy},
    }


def _ratio(samples: dict[str, list[float]]) -> float:
    return summary(samples["stock"])["p50"] / summary(samples["smartops"])["p50"]


async def _interleaved(client: Any, both: Any, runs: int, how: str) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in both}
    for number in range(1, runs + 1):
        for name, deployment in both.items():
            made = await create(client, deployment, ONE_STEP)
            samples[name].append(await seconds_to_first_line(client, made))
        if number % _TELL_EVERY == 0 or number == runs:
            so_far = ", ".join(f"{name} {_words(samples[name])}" for name in both)
            print(f"  {how}, {number} runs each, seconds: {so_far}", flush=True)
    return samples


async def _under_way(client: Any, runs: list[Any]) -> None:
    for run_id in runs:
        while not (found := await client.read_flow_run(run_id)).state.is_running():
            if found.state.is_final():
                raise RuntimeError(f"run {run_id}: {found.state}")
            await asyncio.sleep(0.2)


async def _cancel(client: Any, runs: list[Any]) -> None:
    from prefect.states import Cancelling  # noqa: PLC0415 - see workers.py

    for run_id in runs:
        await client.set_flow_run_state(run_id, Cancelling())
    for run_id in runs:
        while not (await client.read_flow_run(run_id)).state.is_final():
            await asyncio.sleep(0.2)


def _words(samples: list[float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in summary(samples).items())
