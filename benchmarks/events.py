"""From a message that is published to the first step's first line of the job that it starts.

Beside the same job started through Prefect's API, on the same system, in turns: what comes on top
is the broker, the bridge, and its writing down that the message came.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from benchmarks.measuring import point_to, running_stack, summary
from benchmarks.workers import LIMIT_S, first_line, rounds
from services.stack import Stack

RUNS = 50
JOB = """
name: bench-order
params: {order: {type: string}}
steps: [{id: s, kind: wait, duration: 1ms}]
"""
SOURCES = """
sources:
  - name: bench
    kind: messages
    broker: plant-broker
    topic: bench/orders
    id: "{{ event.payload.order }}"
    start: {job: bench-order, params: {order: "{{ event.payload.order }}"}}
"""


def run(home: str) -> dict[str, Any]:
    """Return p50, p95 and p99 in seconds of both ways, and the ratio of the medians."""
    with running_stack(home) as stack:
        point_to(stack)
        job, sources = Path(home) / "bench-order.yaml", Path(home) / "sources.yaml"
        job.write_text(JOB, encoding="utf-8")
        sources.write_text(SOURCES, encoding="utf-8")
        _smartops(stack, "job", "apply", str(job))
        command = [sys.executable, "-m", "services.bridge", str(sources)]
        bridge = subprocess.Popen(command, env=stack.environment)
        try:
            _wait_until_it_listens(stack)
            return asyncio.run(_measure(rounds(RUNS)))
        finally:
            bridge.terminate()
            bridge.wait(30)


def _smartops(stack: Stack, *arguments: str) -> str:
    command = [sys.executable, "-m", "smartops", *arguments]
    return subprocess.run(
        command, env=stack.environment, check=True, capture_output=True, text=True
    ).stdout


def _wait_until_it_listens(stack: Stack) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        try:
            state = json.loads(_smartops(stack, "bridge", "status", "--json"))
        except subprocess.CalledProcessError:  # nothing before the bridge has begun
            state = {"sources": []}
        if any(source["state"] == "listening" for source in state["sources"]):
            return
        time.sleep(0.5)
    raise TimeoutError(f"the bridge does not listen within {LIMIT_S:g} s")


async def _measure(runs: int) -> dict[str, Any]:
    # Imported here: Prefect reads its settings when it is imported.
    from prefect.client.orchestration import get_client  # noqa: PLC0415

    from blocks import MqttBroker  # noqa: PLC0415
    from smartops.drivers import mqtt  # noqa: PLC0415

    saved: Any = await MqttBroker.aload("plant-broker")
    samples: dict[str, list[float]] = {"published": [], "created": []}
    async with get_client() as client, mqtt.open_broker(saved.connection("bench")) as broker:
        deployment = await client.read_deployment_by_name("run-job/bench-order")
        for number in range(runs + 1):
            order = str(uuid4())
            began = datetime.now(UTC)
            await broker.publish("bench/orders", json.dumps({"order": order}).encode(), qos=1)
            found = await _run_of(client, deployment.id, order)
            published = (await first_line(client, found) - began).total_seconds()
            began = datetime.now(UTC)
            made = await client.create_flow_run_from_deployment(
                deployment.id,
                parameters={**deployment.parameters, "params": {"order": str(uuid4())}},
            )
            created = (await first_line(client, made.id) - began).total_seconds()
            if number:  # the first of each warms up
                samples["published"].append(published)
                samples["created"].append(created)
    ours, theirs = summary(samples["published"]), summary(samples["created"])
    return {
        "published_to_first_line": ours,
        "created_to_first_line": theirs,
        "ratio_p50": ours["p50"] / theirs["p50"],
        "n": runs,
        "samples": samples,
    }


async def _run_of(client: Any, deployment: UUID, order: str) -> UUID:
    """Return the run that an order has started."""
    from prefect.client.schemas.filters import (  # noqa: PLC0415
        FlowRunFilter,
        FlowRunFilterDeploymentId,
    )
    from prefect.client.schemas.sorting import FlowRunSort  # noqa: PLC0415

    wanted = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        newest = await client.read_flow_runs(
            flow_run_filter=wanted, sort=FlowRunSort.EXPECTED_START_TIME_DESC, limit=2
        )
        for one in newest:
            if one.parameters["params"].get("order") == order:
                return UUID(str(one.id))
        await asyncio.sleep(0.1)
    raise TimeoutError(f"order {order} started nothing within {LIMIT_S:g} s")
