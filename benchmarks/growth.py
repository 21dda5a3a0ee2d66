"""A thousand runs in a row, and whether the worker or its zygote grows.

Leaves a picture in ``docs/assets/worker-growth.svg``.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

import psutil

from benchmarks.workers import ONE_STEP, both_workers, create, deployments, ended, rounds
from services.zygote import NAME
from smartops.settings import PROJECT_ROOT

RUNS = 1000
SAMPLES = 20
SETTLING = 0.2
"""The share of the runs in which caches still fill: growth is judged after them."""
_MIB = 1024 * 1024
PICTURE = PROJECT_ROOT / "docs" / "assets" / "worker-growth.svg"


def run(home: str) -> dict[str, Any]:
    """Return how much memory, handles, threads and zombies came on per 1,000 runs."""
    with both_workers(home) as sides:
        samples = asyncio.run(_measure(sides.ours, rounds(RUNS)))
    _draw(samples)
    settled = [one for one in samples if one["runs"] >= SETTLING * samples[-1]["runs"]]
    first, last = settled[0], settled[-1]
    per_thousand = 1000 / max(1, last["runs"] - first["runs"])
    keys = [key for key in last if key != "runs"]
    grown = {key: (last[key] - first[key]) * per_thousand for key in keys}
    return {"n": last["runs"], "per_1000_runs": grown, "at_the_end": last, "samples": samples}


async def _measure(worker: psutil.Process, runs: int) -> list[dict[str, float]]:
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - see workers.py

    samples: list[dict[str, float]] = []
    async with get_client() as client:
        both = await deployments(client)
        for number in range(runs + 1):
            if number % max(1, runs // SAMPLES) == 0:
                samples.append({"runs": number, **_reading(worker)})
            await ended(client, await create(client, both["smartops"], ONE_STEP))
    return samples


def _reading(worker: psutil.Process) -> dict[str, float]:
    children = worker.children()
    zygote = next(child for child in children if child.name() == NAME)
    zombies = [child for child in children if child.status() == psutil.STATUS_ZOMBIE]
    found: dict[str, float] = {"zombies": len(zombies)}
    for name, process in (("worker", worker), ("zygote", zygote)):
        found[f"{name}_mib"] = process.memory_info().rss / _MIB
        found[f"{name}_handles"] = process.num_fds()
        found[f"{name}_threads"] = process.num_threads()
    return found


def _draw(samples: list[dict[str, float]]) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only here
    import matplotlib.pyplot as plt  # noqa: PLC0415

    mpl.rcParams.update({"svg.hashsalt": "smartops", "svg.fonttype": "none"})
    figure, plots = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
    runs = [one["runs"] for one in samples]
    for plot, what, unit in zip(
        plots, ("mib", "handles", "threads"), ("MiB", "file handles", "threads"), strict=True
    ):
        for name in ("worker", "zygote"):
            plot.plot(runs, [one[f"{name}_{what}"] for one in samples], label=name)
        most = max(one[f"{name}_{what}"] for one in samples for name in ("worker", "zygote"))
        plot.set(xlabel="runs", title=unit, ylim=(0, math.ceil(1.2 * most)))
    plots[0].legend()
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)
