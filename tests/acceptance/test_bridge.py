"""The device bridge, from a message or a change at the plant to a run, whatever is killed."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from blocks import MqttBroker
from services.stack import Stack
from smartops.drivers import mqtt
from smartops.drivers.mqtt_payload import encode
from tasks.run_context import REQUESTED_BY
from tests import mosquitto
from tests.acceptance.conftest import Cli, fenced
from tests.conftest import PREFECT_LEAVES_SOCKETS, wait_for
from tests.mosquitto import Broker

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
PAGE = "docs/how-to/events.md"
JOB = (
    "name: take-order\n"
    "params: {order: {type: string}, bottles: {type: number}}\n"
    "steps:\n"
    "  - {id: a, kind: assert, checks: [{left: '{{ params.bottles }}', op: '>', right: 0}]}\n"
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with mosquitto.running(tmp_path) as found:
        yield found


@contextmanager
def bridge(stack: Stack, file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A bridge of the stack's home, which is killed at the end."""
    command = [sys.executable, "-m", "services.bridge", str(file)]
    process = subprocess.Popen(command, env=stack.environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def state(cli: Cli, name: str) -> dict[str, Any]:
    """Return how a source is doing; nothing before the first bridge has begun."""
    said = cli("bridge", "status", "--json")
    sources = json.loads(said.stdout)["sources"] if said.returncode == 0 else []
    return next((source for source in sources if source["name"] == name), {})


def until(cli: Cli, name: str, is_so: Callable[[dict[str, Any]], bool], what: str) -> None:
    wait_for(lambda: (found := state(cli, name)) and is_so(found), what, limit_s=60)


def started(stack: Stack) -> list[tuple[str | None, str, Any]]:
    """Return who asked for each run of the job, and its parameters."""
    wanted = {"deployments": {"name": {"any_": ["take-order"]}}}
    answer = httpx.post(f"{stack.api_url}/flow_runs/filter", json=wanted, timeout=30)
    found = answer.json() if answer.is_success else []
    params = [(run["labels"].get(REQUESTED_BY), run["parameters"]["params"]) for run in found]
    return sorted((by or "", given["order"], given["bottles"]) for by, given in params)


def publish(broker: Broker, *orders: tuple[str, int]) -> None:
    asyncio.run(_publish(broker, orders))


async def _publish(broker: Broker, orders: Sequence[tuple[str, int]]) -> None:
    async with mqtt.open_broker(mqtt.Connection("test", "127.0.0.1", broker.port)) as client:
        for order, bottles in orders:
            payload = {"order": order, "bottles": bottles}
            await client.publish("plant/orders/line-1", encode(payload), qos=1)


def test_from_the_plant_to_a_run(
    in_stack: Stack, quick: Cli, broker: Broker, tmp_path: Path
) -> None:
    """Each order starts one run, also when the bridge is killed; a change fires an automation."""
    stack = in_stack
    (tmp_path / "job.yaml").write_text(JOB)
    applied = quick("job", "apply", str(tmp_path / "job.yaml"))
    assert applied.returncode == 0, applied.stderr
    saved: Any = MqttBroker(host="127.0.0.1", port=broker.port).save("plant-orders", overwrite=True)
    assert saved
    text = fenced(PAGE, "yaml", "sources:").replace("plant-broker ", "plant-orders ")
    document = yaml.safe_load(text)
    document["sources"].append(
        {"name": "cell", "kind": "tags", "device": "plant-cell", "tags": ["speed_setpoint"]}
    )
    file = tmp_path / "sources.yaml"
    file.write_text(yaml.safe_dump(document))
    checked = quick("bridge", "check", str(file))
    assert checked.returncode == 0, checked.stderr

    with bridge(stack, file) as process:
        for name in ("orders", "setpoint", "cell"):
            until(quick, name, lambda s: s["state"] == "listening", f"{name} listens")
        for name in ("setpoint", "cell"):
            until(quick, name, lambda s: s["received"] > 0, f"{name} has a value")
        publish(broker, ("A1", 10), ("A1", 10), ("A2", 0))
        until(quick, "orders", lambda s: s["received"] == 3, "the orders came")
        until(quick, "orders", lambda s: s["started"] == 1, "the first order's run")
        until(quick, "orders", lambda s: s["unwanted"] == 1, "the empty order was passed over")
        process.kill()
        process.wait()
    assert json.loads(quick("bridge", "status", "--json").stdout)["running"] is False
    publish(broker, ("A3", 30), ("A1", 10))
    automation = tmp_path / "automations" / "new-setpoint.yaml"
    automation.parent.mkdir()
    automation.write_text(fenced(PAGE, "yaml", "name: a new setpoint"))
    made = quick("automation", "apply", str(automation))
    assert made.returncode == 0, made.stderr
    with bridge(stack, file):
        until(quick, "orders", lambda s: s["started"] == 2, "the order that came meanwhile")
        # A1 came again before the kill and after it; what was not acknowledged may come once more.
        until(quick, "orders", lambda s: s["repeated"] >= 2, "the repeated order was passed over")
        counted = state(quick, "orders")
        assert (counted["unwanted"], counted["refused"]) in {(1, 0), (2, 0)}
        written = quick("device", "write", "plant-line", "speed_setpoint", "131")
        assert written.returncode == 0, written.stderr
        until(quick, "setpoint", lambda s: s["told"] == 1, "the new setpoint is told")
        until(quick, "cell", lambda s: s["told"] >= 1, "and by the cell's server too")
        another = quick("bridge", "run", str(file))
        assert (another.returncode, "another bridge is running" in another.stderr) == (2, True)

    told = events(stack, "setpoint")
    assert [(event["payload"]["value"], event["payload"]["tag"]) for event in told] == [
        (131, "speed_setpoint")
    ]
    [by_order] = [e for e in events(stack, "orders") if e["payload"]["payload"]["order"] == "A3"]
    assert by_order["related"][0]["prefect.resource.role"] == "flow-run"
    wait_for(lambda: len(started(stack)) > 2, "the automation's run", limit_s=120)
    assert started(stack) == [
        ("", "speed_setpoint", 131),
        ("source orders", "A1", 10),
        ("source orders", "A3", 30),
    ]
    automation.unlink()
    pruned = quick("automation", "apply", "--prune", str(automation.parent), "--json")
    assert [(c["name"], c["action"]) for c in json.loads(pruned.stdout)] == [
        ("a new setpoint", "deleted")
    ]
    assert quick("job", "delete", "take-order").returncode == 0


def events(stack: Stack, source: str) -> list[dict[str, Any]]:
    """Return Prefect's events of a source; it writes them some seconds later."""
    wanted = {
        "filter": {"resource": {"id": [f"smartops.source.{source}"]}},
        "limit": 50,
    }
    found: list[dict[str, Any]] = []

    def there() -> bool:
        answer = httpx.post(f"{stack.api_url}/events/filter", json=wanted, timeout=30)
        found[:] = answer.json()["events"] if answer.is_success else []
        return bool(found)

    wait_for(there, f"Prefect's events of {source}", limit_s=60)
    return found


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"kind": "tags", "device": "plant-line", "tags": ["nope"]}, "plant-line has no tag nope"),
        ({"kind": "tags", "device": "no-such", "tags": ["x"]}, "no device 'no-such' is saved"),
        ({"kind": "messages", "broker": "no-such", "topic": "x"}, "no connection 'no-such'"),
        (
            {"kind": "tags", "device": "plant-line", "tags": ["batch"], "start": {"job": "gone"}},
            "no job 'gone' is deployed",
        ),
        (
            {
                "kind": "tags",
                "device": "plant-line",
                "tags": ["batch"],
                "start": {"job": "line-check", "params": {"foo": 1}},
            },
            "job line-check has no parameter foo",
        ),
        (
            {
                "kind": "tags",
                "device": "plant-line",
                "tags": ["batch"],
                "start": {"job": "line-check"},
            },
            "job line-check is paused",
        ),
        (
            {"kind": "messages", "broker": "plant-broker", "topic": "plant/#/x"},
            "'plant/#/x' is no topic",
        ),
    ],
)
def test_what_is_missing_is_told_before(
    quick: Cli, tmp_path: Path, source: dict[str, Any], said: str
) -> None:
    """``bridge check`` finds it; the exit code is 1."""
    file = tmp_path / "sources.yaml"
    file.write_text(yaml.safe_dump({"sources": [{"name": "a", **source}]}))
    checked = quick("bridge", "check", str(file))
    assert (checked.returncode, said in checked.stderr) == (1, True), checked.stderr
