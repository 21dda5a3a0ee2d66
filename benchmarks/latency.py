"""From "run now" to the first step's first line: our worker beside Prefect's process worker."""

from __future__ import annotations

import asyncio
import importlib
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.measuring import running_stack, summary

RUNS = 10
JOB = {"name": "latency", "steps": [{"id": "s", "kind": "wait", "duration": "1ms"}]}


def run(home: str) -> dict[str, Any]:
    """Return p50, p95, p99 in seconds for both, interleaved on one server, and their ratio."""
    with running_stack(home, plant=False) as stack:
        env = {k: v for k, v in stack.environment.items() if k != "PREFECT_WORKER_QUERY_SECONDS"}
        command = [
            sys.executable,
            "-m",
            "prefect",
            "worker",
            "start",
            "-p",
            "stock",
            "-t",
            "process",
        ]
        with (Path(home) / "stock.log").open("wb") as log:
            stock = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            os.environ.update(stack.environment)
            os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
            importlib.import_module("prefect")  # its start-up hooks cannot run inside a loop
            return asyncio.run(_measure())
        finally:
            stock.terminate()
            stock.wait(30)


async def _measure() -> dict[str, Any]:
    # Imported here: Prefect reads its settings when it is imported.
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415

    samples: dict[str, list[float]] = {"stock": [], "smartops": []}
    async with get_client() as client:
        template = await client.read_deployment_by_name("run-job/run-job")
        while True:
            try:
                await client.read_work_pool("stock")
                break
            except ObjectNotFound:
                await asyncio.sleep(0.2)
        stock = await client.create_deployment(
            flow_id=template.flow_id,
            name="stock",
            work_pool_name="stock",
            entrypoint=template.entrypoint,
            parameter_openapi_schema=template.parameter_openapi_schema,
        )
        for _ in range(RUNS):
            for name, deployment in (("stock", stock), ("smartops", template.id)):
                samples[name].append(await _one(client, deployment))
    return {
        "stock": summary(samples["stock"]),
        "smartops": summary(samples["smartops"]),
        "ratio_p50": summary(samples["stock"])["p50"] / summary(samples["smartops"])["p50"],
        "n": RUNS,
        "samples": samples,
    }


async def _one(client: Any, deployment: Any) -> float:
    """Return the seconds from the run's creation to its step's first line."""
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId  # noqa: PLC0415

    run = await client.create_flow_run_from_deployment(deployment, parameters={"job": JOB})
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        lines = [line for line in await client.read_logs(wanted) if line.task_run_id is not None]
        if lines:
            first: datetime = min(line.timestamp for line in lines)
            created: datetime = run.created
            return (first - created).total_seconds()
        await asyncio.sleep(0.2)
    raise TimeoutError(f"run {run.id} did not start within two minutes")
