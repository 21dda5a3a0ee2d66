"""``python -m tests.chaos.soaking [--runs N]``: healthy runs on a busy machine, none called dead.

So many are kept going at once that they want more CPU than there is. Nothing is killed: each run
that is called dead, by Prefect or on record, is one too many.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from benchmarks.measuring import running_stack, save
from services.stack import Stack
from smartops.audit import models
from smartops.audit.store import Store
from smartops.jobs import loader

JOB = """
name: soaked
steps:
  - {id: first, kind: wait, duration: 1ms}
  - {id: second, kind: wait, duration: 1ms, needs: [first]}
"""
_TAG = "soaked"
"""On each run: there are others, of schedules, that are to come."""
_AT_ONCE = 8
_PAUSE_S = 0.2
_TELL_EVERY_S = 60.0
_PATIENCE_S = 300.0
_OPEN = ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"]


def main() -> int:
    """Make the runs; print what became of them; return 0 when all are completed everywhere."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="smartops-soaking-"))
    print(f"{given.runs} runs, {_AT_ONCE} at once, in {folder}")
    with running_stack(str(folder), plant=False) as stack:
        result = _soak(stack, given.runs)
    for name, value in result.items():
        print(f"{name:<16} {value}")
    save("soaking", result)
    whole = {"completed": given.runs}
    is_well = result["in_prefect"] == whole == result["on_record"] and not result["called_dead"]
    return 0 if is_well else 1


def _soak(stack: Stack, runs: int) -> dict[str, Any]:
    loads: list[float] = []
    began = time.monotonic()
    with httpx.Client(base_url=stack.api_url, timeout=60, trust_env=False) as client:
        _submit_all(client, runs, loads)
        took_s = time.monotonic() - began
        _wait(lambda: _open(client) == 0, "the last runs")
        store = Store(stack.settings.store_url)
        try:
            _wait(lambda: sum(_on_record(store).values()) >= runs, "the record")
            return {
                "runs": runs,
                "per_min": 60 * runs / took_s,
                "load": sorted(loads)[len(loads) // 2],
                "in_prefect": _in_prefect(client),
                "on_record": dict(_on_record(store)),
                "called_dead": _called_dead(store),
            }
        finally:
            store.close()


def _submit_all(client: httpx.Client, runs: int, loads: list[float]) -> None:
    """Keep so many runs going, until all have been made."""
    parameters = {"job": loader.loads(JOB).document()}
    deployment = client.get("/deployments/name/run-job/run-job").raise_for_status().json()["id"]
    made, tell_at = 0, time.monotonic() + _TELL_EVERY_S
    while made < runs:
        for _ in range(min(_AT_ONCE - _open(client), runs - made)):
            answer = client.post(
                f"/deployments/{deployment}/create_flow_run",
                json={"parameters": parameters, "tags": [_TAG]},
            )
            made += answer.raise_for_status().is_success
        loads.append(os.getloadavg()[0])
        if time.monotonic() >= tell_at:
            tell_at += _TELL_EVERY_S
            print(f"  {made:>6} runs; load {loads[-1]:.1f}; {_in_prefect(client)}", flush=True)
        time.sleep(_PAUSE_S)


def _count(client: httpx.Client, types: list[str]) -> int:
    wanted = {"flow_runs": {"state": {"type": {"any_": types}}, "tags": {"all_": [_TAG]}}}
    return int(client.post("/flow_runs/count", json=wanted).raise_for_status().json())


def _open(client: httpx.Client) -> int:
    return _count(client, _OPEN)


def _in_prefect(client: httpx.Client) -> dict[str, int]:
    """Return how many runs are in each final state."""
    final = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
    found = {name.lower(): _count(client, [name]) for name in final}
    return {name: count for name, count in found.items() if count}


def _on_record(store: Store) -> Counter[str]:
    """Return how many runs have ended on record, by their state."""
    run = models.job_run
    query = sa.select(run.c.state, sa.func.count()).where(
        run.c.job == "soaked", run.c.ended_at.is_not(None)
    )
    with store.reading() as connection:
        rows = connection.execute(query.group_by(run.c.state)).all()
    return Counter({row[0]: row[1] for row in rows})


def _called_dead(store: Store) -> int:
    """Return how many runs were given their end by somebody else."""
    query = sa.select(sa.func.count()).where(models.job_run.c.evidence.is_not(None))
    with store.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _wait(is_so: Any, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            print(f"  gave up waiting for {what}", flush=True)
            return
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
