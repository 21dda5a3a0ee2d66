"""Makes histories of runs, for benchmarks that need a record to work on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uuid6 import uuid7

from smartops.audit.events import Event
from smartops.audit.journal import Journal

STEPS = 3


def journal_runs(folder: Path, runs: int) -> int:
    """Write a journal with the events of some runs of three steps; return how many events."""
    journal = Journal(folder)
    for _ in range(runs):
        journal.append(*events_of_a_run())
    written = journal.records
    journal.close()
    return written


def events_of_a_run() -> Iterator[Event]:
    """Yield the events of one run as a worker writes them: 12 for three steps."""
    run = uuid7()
    start = {"job": "line-check", "flow": "run-job", "kind": "job", "params": {"line": "line-1"}}
    yield Event("run.started", run, start)
    for number in range(STEPS):
        step = {"step_run_id": str(uuid7())}
        what = {"step": f"step-{number}", "kind": "modbus.read", "effect": "read", "attempt": 1}
        inputs = {"device": "line-1", "tags": ["tank_level", "temperature", "good_count"]}
        yield Event("step.started", run, {**step, **what, "inputs": inputs})
        text = "tank_level 43.0 %, temperature 63.26 °C, good_count 4176 bottles"
        yield Event("log", run, {"level": 20, "logger": "prefect.task_runs", "message": text})
        output = {"values": {"tank_level": 43.0, "temperature": 63.26, "good_count": 4176}}
        yield Event("step.ended", run, {**step, "state": "completed", "output": output})
    yield Event("log", run, {"level": 20, "logger": "prefect.flow_runs", "message": "done"})
    yield Event("run.ended", run, {"state": "completed", "message": ""})
