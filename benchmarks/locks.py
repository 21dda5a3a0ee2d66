"""Taking turns: how soon the next one starts when a lock is given back, and when its holder dies.

Ours, on a machine and through a database, beside Prefect's global concurrency limit with leases.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.measuring import percentile, running_stack
from scripts import mariadb
from smartops.audit import schema
from smartops.audit.store import Store

TURNS, WAITERS = 10, 5
LEASE_S = 60
"""The shortest lease that Prefect gives."""

OURS = """
import asyncio, sys, time
from smartops.locks import exclusive
async def use():
    for _ in range(int(sys.argv[1])):
        async with exclusive("bench", None):
            print(time.time(), flush=True)
            await asyncio.sleep(float(sys.argv[2]))
            print(time.time(), flush=True)
asyncio.run(use())
"""
PREFECT = """
import asyncio, sys, time
from prefect.concurrency.asyncio import concurrency
async def use():
    for _ in range(int(sys.argv[1])):
        async with concurrency("bench", strict=True, lease_duration=float(sys.argv[3])):
            print(time.time(), flush=True)
            await asyncio.sleep(float(sys.argv[2]))
            print(time.time(), flush=True)
asyncio.run(use())
"""


def run(home: str) -> dict[str, Any]:
    """Return for each way: seconds from a release to the next start, and from a death to it."""
    found: dict[str, Any] = {}
    machine = {**os.environ, "SMARTOPS_HOME": home}
    found["tickets"] = _measure(OURS, machine)
    with (
        tempfile.TemporaryDirectory(prefix="smartops-bench-db-") as folder,
        mariadb.running(Path(folder)) as server,
    ):
        url = _database(server.url)
        shared = {"SMARTOPS_LOCKS": "database", "SMARTOPS_DATABASE_URL": url}
        found["database"] = _measure(OURS, {**machine, **shared})
    with running_stack(home, plant=False) as stack:
        limit = ["global-concurrency-limit", "create", "bench", "--limit", "1"]
        command = [sys.executable, "-m", "prefect", *limit]
        subprocess.run(command, env=stack.environment, check=True, capture_output=True)
        found["prefect"] = _measure(PREFECT, stack.environment)
    ours = found["tickets"]["handover_p95"]
    return {**found, "ratio_handover_p95": found["prefect"]["handover_p95"] / ours, "n": TURNS}


def _database(server: str) -> str:
    store = Store(f"{server}/mysql")
    with store.engine.connect() as connection:
        connection.exec_driver_sql("CREATE DATABASE bench")
    store.close()
    store = Store(f"{server}/bench")
    schema.migrate(store)
    store.close()
    return f"{server}/bench"


def _measure(program: str, environment: dict[str, str]) -> dict[str, float]:
    return {**_handovers(program, environment), "after_kill": _after_a_death(program, environment)}


def _start(
    program: str, environment: dict[str, str], turns: int, hold_s: float
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, str(turns), str(hold_s), str(LEASE_S)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def _handovers(program: str, environment: dict[str, str]) -> dict[str, float]:
    """Let several wait at all times; return p50 and p95 of the gaps between their turns.

    ``most_in_a_row`` is how many turns one of them had while the others waited: 1 is fair.
    """
    waiters = [_start(program, environment, TURNS, 0.05) for _ in range(WAITERS)]
    turns: list[tuple[float, float, int]] = []
    for number, waiter in enumerate(waiters):
        times = list(map(float, waiter.communicate(timeout=900)[0].split()))
        turns += [
            (begun, ended, number) for begun, ended in zip(times[::2], times[1::2], strict=True)
        ]
    turns.sort()
    begun = max(min(turn[0] for turn in turns if turn[2] == n) for n in range(WAITERS))
    ended = min(max(turn[1] for turn in turns if turn[2] == n) for n in range(WAITERS))
    contended = [turn for turn in turns if begun <= turn[0] and turn[1] <= ended] or turns
    gaps = [later[0] - earlier[1] for earlier, later in pairwise(contended)]
    longest, row = 1, 1
    for earlier, later in pairwise(contended):
        row = row + 1 if earlier[2] == later[2] else 1
        longest = max(longest, row)
    return {
        "handover_p50": statistics.median(gaps),
        "handover_p95": percentile(gaps, 0.95),
        "most_in_a_row": longest,
    }


def _after_a_death(program: str, environment: dict[str, str]) -> float:
    """Return the seconds from the kill of a holder to the start of who waits."""
    holder = _start(program, environment, 1, 3600)
    assert holder.stdout is not None  # noqa: S101 - for the type checker
    holder.stdout.readline()
    waiter = _start(program, environment, 1, 0)
    time.sleep(5)  # it says nothing while it waits
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    killed = time.time()
    begun = float(waiter.communicate(timeout=4 * LEASE_S)[0].split()[0])
    return begun - killed
