"""Our worker and Prefect's own process worker, on one server, with the same flow to run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psutil

from benchmarks.measuring import point_to, running_stack
from services.stack import Stack

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

LIMIT_S = 180.0
_LOOK_S = 0.25
"""Each look takes the server some ten milliseconds, which the runs have to share."""
ONE_STEP = {"name": "one-step", "steps": [{"id": "s", "kind": "wait", "duration": "1ms"}]}
TWO_STEPS = {
    "name": "two-steps",
    "steps": [
        {"id": "first", "kind": "wait", "duration": "1ms"},
        {"id": "second", "kind": "wait", "duration": "1ms", "needs": ["first"]},
    ],
}


def rounds(default: int) -> int:
    """Return how many runs are measured: ``BENCH_RUNS``, for a quick look."""
    return int(os.environ.get("BENCH_RUNS", default))


@dataclass(frozen=True)
class Sides:
    """The two workers, and a deployment of the same flow for each."""

    stack: Stack
    stock: psutil.Process

    @property
    def ours(self) -> psutil.Process:
        """Our worker."""
        (service,) = (one for one in self.stack.services if one.name == "worker")
        return psutil.Process(service.pid)


@contextmanager
def both_workers(home: str) -> Iterator[Sides]:
    """Give a running system with a stock process worker beside ours, both warmed up by a run."""
    with running_stack(home, plant=False) as stack:
        env = {k: v for k, v in stack.environment.items() if k != "PREFECT_WORKER_QUERY_SECONDS"}
        command = [sys.executable, "-m", "prefect", "worker", "start", "-p", "stock"]
        with (Path(home) / "stock.log").open("wb") as log:
            stock = subprocess.Popen([*command, "-t", "process"], env=env, stdout=log, stderr=log)
        try:
            point_to(stack)
            yield Sides(stack, psutil.Process(stock.pid))
        finally:
            family = psutil.Process(stock.pid).children(recursive=True)
            stock.terminate()
            with suppress(subprocess.TimeoutExpired):  # it waits for what it runs
                stock.wait(10)
            stock.kill()
            stock.wait()
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()


async def deployments(client: PrefectClient) -> dict[str, UUID]:
    """Return the deployment for each worker, after one run of each, which is not counted."""
    # Imported here: Prefect reads its settings when it is imported.
    from prefect.exceptions import ObjectNotFound  # noqa: PLC0415

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
    made = {"stock": stock, "smartops": template.id}
    for deployment in made.values():
        await ended(client, await create(client, deployment, ONE_STEP))
    return made


async def create(client: PrefectClient, deployment: UUID, job: Mapping[str, Any]) -> UUID:
    """Create a run of a job; return its id."""
    run = await client.create_flow_run_from_deployment(deployment, parameters={"job": dict(job)})
    return run.id


async def ended(client: PrefectClient, run: UUID) -> Any:
    """Return a run once it has ended. Raises TimeoutError, and RuntimeError where it failed."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        found = await client.read_flow_run(run)
        if found.state is not None and found.state.is_final():
            if not found.state.is_completed():
                raise RuntimeError(f"run {run}: {found.state}")
            return found
        await asyncio.sleep(_LOOK_S)
    raise TimeoutError(f"run {run} did not end within {LIMIT_S:g} s")


async def seconds_to_first_line(client: PrefectClient, run: UUID) -> float:
    """Return the seconds from a run's creation to its first step's first line."""
    line = await first_line(client, run)
    created: Any = (await client.read_flow_run(run)).created
    return float((line - created).total_seconds())


async def first_line(client: PrefectClient, run: UUID) -> datetime:
    """Return when a run's first step wrote its first line."""
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId  # noqa: PLC0415

    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
    await ended(client, run)
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        lines = [line for line in await client.read_logs(wanted) if line.task_run_id is not None]
        if lines:
            return min(line.timestamp for line in lines)
        await asyncio.sleep(0.1)
    raise TimeoutError(f"run {run} left no line")
