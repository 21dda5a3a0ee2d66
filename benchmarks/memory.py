"""What a worker costs in memory: idle, and for each run that is going on, beside the stock one.

Counted is each process's proportional share (PSS), so that what is shared is counted once.
"""

from __future__ import annotations

import asyncio
from typing import Any

import psutil

from benchmarks.workers import Sides, both_workers, create, deployments, rounds

RUNS = 10
_MIB = 1024 * 1024
WAITING = {
    "name": "waiting",
    "steps": [{"id": "s", "kind": "wait", "duration": "10m", "timeout": "20m"}],
}


def run(home: str) -> dict[str, Any]:
    """Return the MiB of an idle worker with what belongs to it, and of each run."""
    with both_workers(home) as sides:
        return asyncio.run(_measure(sides, rounds(RUNS)))


async def _measure(sides: Sides, runs: int) -> dict[str, Any]:
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - see workers.py
    from prefect.states import Cancelling  # noqa: PLC0415

    workers = {"stock": sides.stock, "smartops": sides.ours}
    result: dict[str, Any] = {"n": runs}
    async with get_client() as client:
        both = await deployments(client)
        for name, worker in workers.items():
            await asyncio.sleep(5)  # what the last runs leave is given back
            idle = _pss_mib(worker)
            made = [await create(client, both[name], WAITING) for _ in range(runs)]
            for run_id in made:
                while (await client.read_flow_run(run_id)).state_name != "Running":
                    await asyncio.sleep(0.2)
            await asyncio.sleep(5)
            result[f"{name}_idle_mib"] = idle
            result[f"{name}_per_run_mib"] = (_pss_mib(worker) - idle) / runs
            for run_id in made:
                await client.set_flow_run_state(run_id, Cancelling())
            for run_id in made:
                found = await client.read_flow_run(run_id)
                while not (found.state and found.state.is_final()):
                    await asyncio.sleep(0.5)
                    found = await client.read_flow_run(run_id)
    result["ratio_idle"] = result["smartops_idle_mib"] / result["stock_idle_mib"]
    result["ratio_per_run"] = result["smartops_per_run_mib"] / result["stock_per_run_mib"]
    return result


def _pss_mib(worker: psutil.Process) -> float:
    family = [worker, *worker.children(recursive=True)]
    return float(sum(process.memory_full_info().pss for process in family)) / _MIB
