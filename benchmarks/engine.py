"""What a step costs: a job of 1,000 steps beside a bare Prefect flow with 1,000, interleaved."""

from __future__ import annotations

import asyncio
import importlib
import os
import statistics
import time
from typing import Any

from benchmarks.measuring import running_stack

STEPS, ROUNDS = 1000, 3


def run(home: str) -> dict[str, Any]:
    """Return seconds per step of both, and their ratio."""
    with running_stack(home, plant=False) as stack:
        os.environ.update(stack.environment)
        os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
        importlib.import_module("prefect")  # its start-up hooks cannot run inside a loop
        return asyncio.run(_measure())


async def _measure() -> dict[str, Any]:
    # Imported here: Prefect reads its settings when it is imported.
    from prefect import flow, task  # noqa: PLC0415

    from flows.run_job import run_job  # noqa: PLC0415
    from smartops.jobs.spec import JobSpec  # noqa: PLC0415

    @task
    async def nothing(number: int) -> dict[str, Any]:
        return {"number": number}

    @flow
    async def bare() -> None:
        for number in range(STEPS):
            await nothing(number)

    check = {"left": 1, "right": 1}
    steps = [
        {"id": f"s{n}", "kind": "assert", "checks": [check], "needs": [f"s{n - 1}"] if n else []}
        for n in range(STEPS)
    ]
    job = JobSpec.model_validate({"name": "bench", "steps": steps})
    samples: dict[str, list[float]] = {"bare_prefect": [], "smartops": []}
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        await bare()
        samples["bare_prefect"].append((time.perf_counter() - begun) / STEPS)
        begun = time.perf_counter()
        await run_job(job)
        samples["smartops"].append((time.perf_counter() - begun) / STEPS)
    ours, theirs = (statistics.median(samples[name]) for name in ("smartops", "bare_prefect"))
    return {
        "bare_prefect_per_step": theirs,
        "smartops_per_step": ours,
        "ratio": ours / theirs,
        "n": ROUNDS,
        "samples": samples,
    }
