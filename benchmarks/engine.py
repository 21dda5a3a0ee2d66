"""What a step costs: a job of 1,000 steps beside a bare Prefect flow with 1,000, interleaved."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from benchmarks.measuring import point_to, running_stack
from reports.runs import Wanted, get_run, list_runs
from smartops.audit import shipping
from smartops.audit.store import Store
from smartops.settings import get_settings

STEPS, ROUNDS = 1000, 3


def run(home: str) -> dict[str, Any]:
    """Return seconds per step of both, and their ratio."""
    with running_stack(home, plant=False) as stack:
        point_to(stack)
        return asyncio.run(_measure(home))


async def _measure(home: str) -> dict[str, Any]:
    # Imported here: Prefect reads its settings when it is imported.
    from prefect import flow, task  # noqa: PLC0415

    from flows.run_job import run_job  # noqa: PLC0415
    from smartops.jobs.spec import JobSpec  # noqa: PLC0415

    @task
    async def nothing(number: int) -> dict[str, Any]:
        return {"number": number}

    @flow
    async def bare() -> float:
        begun = time.perf_counter()
        for number in range(STEPS):
            await nothing(number)
        return time.perf_counter() - begun

    check = {"left": 1, "right": 1}
    steps = [
        {"id": f"s{n}", "kind": "assert", "checks": [check], "needs": [f"s{n - 1}"] if n else []}
        for n in range(STEPS)
    ]
    job = JobSpec.model_validate({"name": "bench", "steps": steps})
    samples: dict[str, list[float]] = {"bare_prefect": [], "smartops": []}
    for _ in range(ROUNDS):
        samples["bare_prefect"].append(await bare() / STEPS)
        await run_job(job)
        samples["smartops"].append(_from_first_to_last(home) / STEPS)
    ours, theirs = (statistics.median(samples[name]) for name in ("smartops", "bare_prefect"))
    return {
        "bare_prefect_per_step": theirs,
        "smartops_per_step": ours,
        "ratio": ours / theirs,
        "n": ROUNDS,
        "samples": samples,
    }


def _from_first_to_last(home: str) -> float:
    """Return the seconds from the begin of the last run's first step to the end of its last.

    Without the start and the end of the run, as for the other: there Prefect's API is waited for.
    """
    store = Store(f"sqlite:///{home}/audit.sqlite")
    try:
        shipping.ship_all(store, get_settings().journal_dir)
        newest = list_runs(store, Wanted(job="bench"), limit=1)[0]
        steps = get_run(store, str(newest.run_id)).steps
    finally:
        store.close()
    begun = min(step.started_at for step in steps)
    ended = max(step.ended_at for step in steps if step.ended_at is not None)
    return (ended - begun).total_seconds()
