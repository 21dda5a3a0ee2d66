"""``python -m tests.chaos.cancelling [--count N]``: runs that are cancelled at any moment.

A job with steps of all kinds under way at once is cancelled at a moment by chance, as by the button
in Prefect's UI or by `run cancel`. A second after its time to end, nothing of it may be left.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import PrefectHTTPStatusError

from benchmarks.measuring import percentile, save
from reports.runs import get_run
from services import stack as stacks
from services.run_control import stop
from services.stack import Stack
from services.zygote import RUN_ID
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs import loader
from smartops.settings import PROJECT_ROOT, get_settings
from tasks.job import TIME_TO_CANCEL_S
from tests.chaos import counting

T = TypeVar("T")
CLEANUP_S = 10.0
_GRACE_S = CLEANUP_S + 7.0 + TIME_TO_CANCEL_S
"""The job's time for cleaning up, what a run may need for its own end, and its child for that."""
_PATIENCE_S = 180.0
_SLOW_S = 1.0
_LATEST_S = 12.0
_AT_ONCE = 2
CHILD = "name: cancelled-child\nsteps: [{id: hold, kind: wait, duration: 55s}]\n"
JOB = f"""
name: cancelled
cleanup: {CLEANUP_S:g}s
params: {{mark: {{type: string}}}}
steps:
  - id: begin
    kind: rest.request
    service: plant-orders
    method: POST
    path: /shift-log
    body: {{line: line-1, text: "{{{{ params.mark }}}} begin", good: 1, scrap: 0}}
    undo:
      kind: rest.request
      service: plant-orders
      method: POST
      path: /shift-log
      body: {{line: line-1, text: "{{{{ params.mark }}}} back", good: 1, scrap: 0}}
  - {{id: read, kind: modbus.read, device: plant-line, tags: [tank_level], needs: [begin]}}
  - id: write
    kind: modbus.write
    device: plant-line
    tag: speed_setpoint
    value: 100
    needs: [read]
    undo: {{kind: modbus.write, device: plant-line, tag: speed_setpoint, value: 90}}
  - {{id: cell, kind: opcua.read, server: plant-cell, tags: [speed], needs: [begin]}}
  - id: weigh
    kind: serial.ask
    needs: [begin]
    line: plant-scale
    send: S
    expect: '^S (?P<sign>[SI]) .*$'
    effect: read
    foreach: [1, 2, 3, 4, 5, 6, 7, 8]
    max_parallel: 1
    on_failure: continue
  - {{id: scan, kind: serial.listen, line: plant-scanner, expect: '^never$', timeout: 60s,
     needs: [begin], on_failure: continue}}
  - id: broker
    kind: wait
    needs: [begin]
    timeout: 60s
    message: {{broker: plant-broker, topic: plant/never}}
  - id: panel
    kind: browser.run
    profile: plant-hmi
    needs: [begin]
    effect: read
    on_failure: continue
    actions:
      - {{do: goto, path: /login}}
      - {{do: fill, target: {{label: User name}}, credential: username}}
      - {{do: fill, target: {{label: Password}}, credential: password}}
      - {{do: click, target: {{role: button, name: Log in}}}}
      - {{do: expect, target: {{role: heading, name: Never there}}}}
  - {{id: own, kind: python.call, function: "tests.chaos.blocking:hold", args: {{seconds: 60}},
     needs: [begin], effect: read}}
  - {{id: child, kind: job, job: cancelled-child, needs: [begin], effect: read}}
  - {{id: hold, kind: wait, duration: 55s, needs: [begin]}}
  - id: end
    kind: rest.request
    always: true
    service: plant-orders
    method: POST
    path: /shift-log
    body: {{line: line-1, text: "{{{{ params.mark }}}} end", good: 1, scrap: 0}}
"""


@dataclass
class Cancelled:
    """One run that was cancelled, and how that went."""

    mark: str
    run: UUID
    after_s: float
    """How long after it was asked for it was cancelled."""
    over_s: float = 0.0
    """How long after that nothing of it was left."""
    prefect_s: float = 0.0
    """How long Prefect let us wait for its answers meanwhile: nothing ends there in that time."""
    faults: list[str] = field(default_factory=list)
    state: str = ""
    on_record: str = ""
    began: bool = False
    """Whether any of its steps has begun: from then on its `always` steps are due."""
    in_doubt: bool = False
    """Whether it was broken off while it made what `undo` takes back: a person decides then."""


async def cancel_one(
    client: PrefectClient, running: Stack, store: Store, deployment: UUID, mark: str, after_s: float
) -> Cancelled:
    """Start the job, cancel it after a time, and look when nothing of it is left."""
    parameters = {"job": loader.loads(JOB).document(), "params": {"mark": mark}}
    made, _ = await _answered(
        lambda: client.create_flow_run_from_deployment(
            deployment, parameters=parameters, idempotency_key=mark
        )
    )
    one = Cancelled(mark, made.id, after_s)
    await asyncio.sleep(after_s)
    if random.random() < 0.5:
        cancelling: State[Any] = State(type=StateType.CANCELLING)
        await _answered(lambda: client.set_flow_run_state(made.id, cancelling))
    else:
        await _answered(lambda: stop(client, made.id, "somebody", "cancelled by somebody"))
    began = time.monotonic()
    while time.monotonic() < began + _GRACE_S + 1 + one.prefect_s:
        found, took_s = await _answered(lambda: client.read_flow_run(made.id))
        one.prefect_s += took_s if took_s > _SLOW_S else 0.0
        state = found.state
        if state is not None and state.is_final() and not processes_of(running, store, made.id):
            break
        await asyncio.sleep(0.1)
    one.over_s = time.monotonic() - began
    one.faults += [f"alive: {name}" for name in processes_of(running, store, made.id)]
    one.state = state.type.value if state is not None else "none"
    if state is None or state.type is not StateType.CANCELLED:
        why = state.message if state is not None else None
        one.faults.append(f"in Prefect it is {one.state} ({why})")
    return one


async def _answered(ask: Callable[[], Awaitable[T]]) -> tuple[T, float]:
    """Ask Prefect until it answers; return that, and how long it took.

    On SQLite its server does not, now and then, for as long as a minute.
    """
    began = time.monotonic()
    while True:
        try:
            return await ask(), time.monotonic() - began
        except (httpx.HTTPError, PrefectHTTPStatusError):
            if time.monotonic() > began + _PATIENCE_S:
                raise
            await asyncio.sleep(1)


def processes_of(running: Stack, store: Store, run: UUID) -> list[str]:
    """Return what is alive of a run, by its session or its environment."""
    try:
        pids = {process.pid for process in get_run(store, str(run)).processes}
    except BadInput:
        pids = set()
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get("SMARTOPS_HOME") == str(running.settings.home)
            session = os.getsid(process.pid)
            if ours and (session in pids or process.environ().get(RUN_ID) == str(run)):
                found.append(f"{process.name()} {process.pid}")
        except (psutil.Error, OSError):
            continue
    return found


async def cancel_many(running: Stack, count: int, deployment: UUID | None) -> list[Cancelled]:
    """Cancel so many runs, a few at once."""
    store = Store(running.settings.store_url)
    turn = asyncio.Semaphore(_AT_ONCE)
    done: list[Cancelled] = []

    async def one(number: int) -> None:
        async with turn:
            after_s = random.uniform(0, _LATEST_S) ** 2 / _LATEST_S  # more of the early ones
            mark = f"c{os.urandom(3).hex()}"
            one = await cancel_one(client, running, store, of, mark, after_s)
            done.append(one)
            faults = "; ".join(one.faults) or "well"
            print(
                f"  {number:>4} after {after_s:5.2f} s: {one.over_s:5.2f} s, {faults}", flush=True
            )

    async with get_client() as client:
        of = deployment or (await client.read_deployment_by_name("run-job/run-job")).id
        await asyncio.gather(*(one(number) for number in range(count)))
    await asyncio.to_thread(_on_record, store, done)
    store.close()
    return done


def _on_record(store: Store, done: list[Cancelled]) -> None:
    """Wait until each run that has begun has its end on record, and look at that."""
    deadline = time.monotonic() + 60
    for one in done:
        while True:
            try:
                detail = get_run(store, str(one.run))
            except BadInput:
                one.on_record = "not begun"
                break
            one.on_record, one.began = detail.run.state, bool(detail.steps)
            one.in_doubt = any(
                step.id == "begin" and step.state == "unknown_outcome" for step in detail.steps
            )
            left = detail.processes[-1].still_alive if detail.processes else None
            if (detail.run.ended_at and left is not None) or time.monotonic() > deadline:
                break
            time.sleep(0.2)
        if one.on_record not in {"not begun", "cancelled", "needs_decision"}:
            one.faults.append(f"on record it is {one.on_record}")


def not_once(posts: Counter[str], done: list[Cancelled]) -> list[str]:
    """Return what was not made exactly once: `always` of each run that began, `undo` of its step.

    ``posts`` counts what the plant was sent.
    """
    wrong = []
    for one in done:
        begun = posts[f"{one.mark} begin"]
        for what, due in (("end", int(one.began)), ("back", 0 if one.in_doubt else begun)):
            times = posts[f"{one.mark} {what}"]
            if times != due or begun > 1:
                wrong.append(f"{one.mark} ({one.run}): begun {begun}, {what} {times}, not {due}")
    return wrong


def listening(running: Stack) -> list[int]:
    """Return the ports on which something below the worker listens, but for the worker itself."""
    (worker,) = (service for service in running.services if service.name == "worker")
    family = worker.process.children(recursive=True) if worker.process else []
    return [
        connection.laddr.port
        for process in family
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]


def cancel_in(running: Stack, count: int, deployment: UUID | None = None) -> dict[str, Any]:
    """Cancel so many runs of a deployment in a running system; return what was counted."""
    done = asyncio.run(cancel_many(running, count, deployment))
    took = [one.over_s for one in done]
    return {
        "runs": len(done),
        "states": dict(Counter(one.state for one in done)),
        "on_record": dict(Counter(one.on_record for one in done)),
        "faults": [f"{one.run}: {fault}" for one in done for fault in one.faults],
        "not_once": not_once(counting.posts(running), done),
        "ports": listening(running),
        "locks_held": counting.locks_held(),
        "prefect_slow": sum(one.prefect_s > 0 for one in done),
        "over_p50": percentile(took, 0.5),
        "over_p95": percentile(took, 0.95),
        "over_most": max(took),
    }


def well(count: dict[str, Any]) -> bool:
    """Return whether nothing went wrong."""
    return not any(count[name] for name in ("faults", "not_once", "ports", "locks_held"))


def deploy_child(running: Stack, folder: Path) -> None:
    """Deploy the job that the job starts."""
    file = folder / "cancelled-child.yaml"
    file.write_text(CHILD)
    command = [sys.executable, "-m", "smartops", "job", "apply", str(file)]
    subprocess.run(command, env=running.environment, check=True, stdout=subprocess.DEVNULL)


def main() -> int:
    """Start a system, cancel runs in it; print a table; return 0 when nothing was left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory(prefix="smartops-cancelling-") as folder:
        os.environ |= {"SMARTOPS_HOME": f"{folder}/home", "SMARTOPS_PYTHON_PACKAGES": "tests"}
        os.environ["PYTHONPATH"] = str(PROJECT_ROOT)
        get_settings.cache_clear()
        running = stacks.up(lambda text: print(f"  ({text})"))
        try:
            deploy_child(running, Path(folder))
            from prefect.settings import PREFECT_API_URL, temporary_settings

            with temporary_settings({PREFECT_API_URL: running.api_url}):
                count = cancel_in(running, given.count)
        finally:
            running.stop()
    for name, value in count.items():
        print(f"{name:<12} {value}")
    save("cancelling", {**count, "seed": given.seed})
    return 0 if well(count) else 1


if __name__ == "__main__":
    sys.exit(main())
