"""``python -m tests.chaos [--runs N] [--seed N]``: what `make chaos` calls."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from benchmarks.measuring import save
from smartops.audit import shipping
from smartops.audit.store import Store
from smartops.errors import SmartOpsError
from smartops.jobs import loader
from tests.chaos import counting
from tests.chaos.counting import Count
from tests.chaos.faults import Faults
from tests.chaos.system import System, system

JOB = """
name: chaos
params: {mark: {type: string}}
steps:
  - id: first
    kind: rest.request
    service: plant-orders
    method: POST
    path: /shift-log
    body: {line: line-1, text: "{{ params.mark }} first", good: 1, scrap: 0}
  - {id: pause, kind: wait, needs: [first], duration: 500ms}
  - id: speed
    kind: modbus.write
    needs: [pause]
    device: plant-line
    tag: speed_setpoint
    value: 100
  - id: second
    kind: rest.request
    needs: [speed]
    service: plant-orders
    method: POST
    path: /shift-log
    body: {line: line-1, text: "{{ params.mark }} second", good: 1, scrap: 0}
"""
_AT_ONCE = 5
_END_S = 30.0
_BETWEEN_S = 4.0
_LONGEST_S = 1500.0
_FINAL = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def main() -> int:
    """Run the suite; print a table; return 0 when nothing was lost, doubled, stuck or repeated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="smartops-chaos-"))
    print(f"{given.runs} runs, seed {given.seed}, in {folder}")
    with system(folder) as running:
        count, faults = _suite(running, given.runs, given.seed)
    print("\nfaults   " + ", ".join(f"{name} {n}" for name, n in sorted(faults.count.items())))
    for name, value in count.as_json().items():
        print(f"{name:<16} {value}")
    save("chaos", {**count.as_json(), "faults": dict(faults.count), "seed": given.seed})
    if count.ok:
        shutil.rmtree(folder, ignore_errors=True)
    return 0 if count.ok else 1


def _suite(running: System, runs: int, seed: int) -> tuple[Count, Faults]:
    faults = Faults(running, seed)
    submitted: list[UUID] = []
    submitting = threading.Thread(target=_submit_all, args=(running, runs, submitted), daemon=True)
    submitting.start()
    deadline = time.monotonic() + _LONGEST_S
    while submitting.is_alive() and time.monotonic() < deadline:
        time.sleep(_BETWEEN_S)
        print(f"  {len(submitted):>4} runs; {faults.do_one()}", flush=True)
    submitting.join()
    store = Store(running.stack.settings.store_url)
    try:
        stuck = _wait_for_ends(running, store, submitted)
        unsafe = sum(1 for times in counting.posts(running.stack).values() if times > 1)
        held = counting.locks_held(store if running.machine else None)
        if running.machine:
            running.machine.stop()
        running.stack.stop()
        for folder in running.journals:
            shipping.ship_all(store, folder)
        journalled, stored = counting.journalled(running.journals), counting.stored(store)
        false_deaths, taken_away = counting.deaths(store, running.away)
        return Count(
            runs=len(submitted),
            kills=len(running.deaths),
            journalled=len(journalled),
            stored=len(stored),
            states=dict(counting.states(store)),
            lost=len(journalled - set(stored)),
            doubled=len(stored) - len(set(stored)),
            stuck=stuck,
            unsafe_repeated=unsafe,
            locks_held=held,
            elsewhere=sum(1 for number in range(len(submitted)) if _is_elsewhere(running, number)),
            taken_away=taken_away,
            false_deaths=false_deaths,
            tampered=counting.tampered(running, store),
        ), faults
    finally:
        store.close()


# --- runs ---------------------------------------------------------------------------------------


def _submit_all(running: System, runs: int, submitted: list[UUID]) -> None:
    """Start runs, some at a time, whatever is away just now."""
    spec = loader.loads(JOB).document()
    with httpx.Client(base_url=running.stack.api_url, timeout=10, trust_env=False) as client:
        while len(submitted) < runs:
            try:
                if len(_open(client, submitted)) < _AT_ONCE:
                    deployment = client.get("/deployments/name/run-job/run-job").json()["id"]
                    if running.machine and _is_elsewhere(running, len(submitted)):
                        deployment = running.machine.deployment
                    parameters = {"job": spec, "params": {"mark": f"m{len(submitted)}"}}
                    answer = client.post(
                        f"/deployments/{deployment}/create_flow_run",
                        json={"parameters": parameters},
                    )
                    submitted.append(UUID(answer.raise_for_status().json()["id"]))
            except (httpx.HTTPError, KeyError, ValueError):
                pass
            time.sleep(0.1)


def _is_elsewhere(running: System, number: int) -> bool:
    """Return whether a run is the second machine's."""
    return running.machine is not None and number % 3 == 2


def _open(client: httpx.Client, submitted: list[UUID]) -> list[dict[str, Any]]:
    """Return the runs that have no end in Prefect."""
    ids = [str(run) for run in submitted[-60:]]
    wanted = {"flow_runs": {"id": {"any_": ids}}, "limit": 200}
    found = client.post("/flow_runs/filter", json=wanted).raise_for_status().json() if ids else []
    return [run for run in found if run["state_type"] not in _FINAL]


def _wait_for_ends(running: System, store: Store, submitted: list[UUID]) -> int:
    """Wait until each run has its end in Prefect and on record; return how many never get one."""
    deadline = time.time() + _END_S + 60  # runs that are healthy have their time as well
    left: set[UUID] = set(submitted)
    with httpx.Client(base_url=running.stack.api_url, timeout=10, trust_env=False) as client:
        while left and time.time() < deadline:
            time.sleep(0.5)
            left = _without_end(client, store, submitted)
    for run in left:
        print(f"  stuck: {run}")
    return len(left)


def _without_end(client: httpx.Client, store: Store, submitted: list[UUID]) -> set[UUID]:
    from smartops.audit.open_runs import known_runs

    open_in_prefect: set[UUID] = set()
    try:
        for start in range(0, len(submitted), 60):
            found = _open(client, submitted[start : start + 60])
            open_in_prefect |= {UUID(run["id"]) for run in found}
        known = known_runs(store, submitted)
    except (httpx.HTTPError, SmartOpsError):
        return set(submitted)
    return open_in_prefect | {
        run for run in submitted if run not in known or known[run].ended_at is None
    }


if __name__ == "__main__":
    sys.exit(main())
