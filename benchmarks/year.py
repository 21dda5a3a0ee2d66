"""A year of a plausible plant in the tables: jobs by shift, bad days, retries, doubts, lost slots.

The same seed gives the same rows. Times go from ``start``, and the load of the day, the faults of a
device and the failures that follow from them belong together, as they do in a plant.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from benchmarks import year_checks
from smartops.audit import models
from smartops.audit.bulk_insert import bulk_insert
from smartops.audit.store import Store

Row = dict[str, Any]
_AT_ONCE = 4000
YEAR = timedelta(days=365)


@dataclass(frozen=True)
class Job:
    """A job as it is in a plant: what it does, how often, how well."""

    name: str
    steps: tuple[tuple[str, str, float], ...]
    """Name, kind and usual duration in seconds of each step."""
    every: timedelta
    device: str
    fails: float
    """The share of its steps that fail on a usual day."""
    retries: bool = True
    writes: bool = False
    error: tuple[str, str] = (
        "DeviceUnreachable",
        "{device} does not answer: timed out after {n} s",
    )


JOBS = (
    Job(
        "line-check",
        (("read", "modbus.read", 0.4), ("compare", "check", 0.01), ("file", "rest.call", 0.3)),
        timedelta(minutes=5), "line-1", 0.002,
    ),
    Job(
        "tank-guard",
        (("level", "modbus.read", 0.2), ("pump", "modbus.write", 0.9)),
        timedelta(minutes=3), "tank-2", 0.003, writes=True,
        error=("WriteMismatch", "pump_speed is {n} after the write, 40 was asked for"),
    ),
    Job(
        "order-sync",
        (("orders", "rest.call", 1.4), ("check", "check", 0.02), ("store", "rest.call", 2.2),
         ("tell", "mqtt.publish", 0.1)),
        timedelta(minutes=10), "erp", 0.012,
        error=("ServiceError", "POST /orders/{n} gave 503 after {n} ms"),
    ),
    Job(
        "morning-round",
        (("login", "browser.script", 4.0), ("read", "opcua.read", 0.8),
         ("approve", "approval", 900.0), ("file", "rest.call", 0.6)),
        timedelta(hours=8), "hmi", 0.02,
        error=("PageNotReady", "the button Start did not appear within {n} s"),
    ),
    Job(
        "weigh-sample",
        (("weigh", "serial.ask", 1.1), ("label", "rest.call", 0.4)),
        timedelta(minutes=15), "scale-1", 0.006,
        error=("BadAnswer", "scale-1: the checksum of frame {n} is wrong"),
    ),
    Job(
        "end-shift",
        (("stop", "opcua.call", 2.0), ("count", "opcua.read", 0.7), ("report", "python.call", 3.1),
         ("mail", "rest.call", 0.9), ("reset", "opcua.write", 0.8)),
        timedelta(hours=8), "press-4", 0.01, retries=False, writes=True,
        error=("UnknownOutcome", "the connection to press-4 broke after the call was sent"),
    ),
)  # fmt: skip


@dataclass
class Plant:
    """Makes the rows of a year, in the order of time."""

    seed: int = 7
    start: datetime = datetime(2025, 11, 1, tzinfo=UTC)
    length: timedelta = YEAR
    density: float = 1.0
    """How many runs there are, against those of the jobs' own schedules."""
    faults: float = 1.0
    """How often something fails, against a usual plant."""
    _random: random.Random = field(default_factory=random.Random)
    _bad_days: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Choose the bad days of each device."""
        self._random.seed(self.seed)
        days = range(max(self.length.days, 1))
        for job in JOBS:
            self._bad_days[job.device] = {day for day in days if self._random.random() < 0.04}

    def history(self, steps: int | None = None) -> Iterator[tuple[str, Row]]:
        """Yield table names and rows: the runs, up to so many step rows, and the checks of data."""
        count, end = 0, self.start
        for table, row in self.runs():
            yield table, row
            count += table == "step_run"
            if table == "job_run":
                end = row["started_at"]
                if steps is not None and count >= steps:
                    break
        yield from year_checks.checks(random.Random(self.seed), self.start, end, self._id)

    def runs(self) -> Iterator[tuple[str, Row]]:
        """Yield table names and rows, run by run, each job's in the order of time."""
        next_at = {job.name: self.start for job in JOBS}
        by_name = {job.name: job for job in JOBS}
        end = self.start + self.length
        while True:
            name = min(next_at, key=lambda name: (next_at[name], name))
            at = next_at[name]
            if at >= end:
                return
            next_at[name] = at + by_name[name].every / self.density
            yield from self._slot(by_name[name], at)

    def _slot(self, job: Job, due: datetime) -> Iterator[tuple[str, Row]]:
        chance = self._random.random()
        outcome, reason, run = "run", "", self._id(due)
        if due.weekday() == 6 and job.every >= timedelta(hours=8):
            outcome, reason = "skipped", "2026: a Sunday" if due.year == 2026 else "a Sunday"
        elif chance < 0.0006:
            outcome, reason = "missed", "no worker took it in time"
        elif chance < 0.002:
            outcome, reason = "skipped", "the run before still goes on"
        yield (
            "slot",
            {
                "id": self._id(due),
                "deployment": f"run-job/{job.name}",
                "job": job.name,
                "due_at": due,
                "schedule": "regular",
                "outcome": outcome,
                "reason": reason,
                "run_id": run if outcome == "run" else None,
                "told_at": due + timedelta(seconds=30),
            },
        )
        if outcome == "run":
            yield from self._run(job, run, due + timedelta(seconds=self._random.uniform(0.2, 2)))

    def _run(self, job: Job, run: UUID, at: datetime) -> Iterator[tuple[str, Row]]:
        started, state, message = at, "completed", ""
        for name, kind, usual in job.steps:
            for attempt in range(1, 4 if job.retries else 2):
                ended, row = self._step(job, run, name, kind, usual, attempt, at)
                yield "step_run", row
                if kind.endswith(".write"):
                    yield "device_command", self._command(job, run, row)
                at = ended + timedelta(milliseconds=self._random.randint(3, 15))
                if row["state"] == "completed":
                    break
                at += timedelta(seconds=2**attempt)
            if row["state"] != "completed":
                unknown = row["state"] == "unknown_outcome"
                state, message = ("needs_decision" if unknown else "failed"), str(row["error"])
                if unknown and self._random.random() < 0.8:
                    yield "decision", self._decision(run, row, at)
                break
        yield (
            "job_run",
            {
                "id": run,
                "job": job.name,
                "kind": "job",
                "flow": "run-job",
                "deployment": f"run-job/{job.name}",
                "params": "{}",
                "state": state,
                "message": message,
                "started_at": started,
                "ended_at": at,
                "host": "cell-1",
                "pid": 4711,
                "requested_by": "schedule",
                "told_by": "own",
                "rehearsal": False,
                "log_lines": 0,
            },
        )

    def _step(
        self, job: Job, run: UUID, name: str, kind: str, usual: float, attempt: int, at: datetime
    ) -> tuple[datetime, Row]:
        bad = (at - self.start).days in self._bad_days[job.device]
        fails = self._random.random() < self.faults * job.fails * (
            12 if bad and kind != "check" else 1
        )
        slow = 1.6 if bad else 1.0 + 0.15 * (6 <= at.hour < 14)
        took = usual * slow * self._random.lognormvariate(0, 0.35)
        error_class, text = job.error
        state = "completed"
        if fails:
            state = "unknown_outcome" if error_class == "UnknownOutcome" else "failed"
            took *= 3
        ended = at + timedelta(microseconds=max(int(took * 1_000_000), 500))
        error = text.format(device=job.device, n=self._random.randint(1, 900)) if fails else None
        return ended, {
            "id": self._id(at),
            "run_id": run,
            "step": name,
            "kind": kind,
            "effect": "idempotent" if kind.endswith((".write", ".call")) else "read",
            "attempt": attempt,
            "state": state,
            "inputs": "{}",
            "output": None if fails else "{}",
            "error_class": error_class if fails else None,
            "error": error,
            "started_at": at,
            "ended_at": ended,
            "host": "cell-1",
            "pid": 4711,
        }

    def _command(self, job: Job, run: UUID, step: Row) -> Row:
        ok = step["state"] == "completed"
        return {
            "id": self._id(step["started_at"]),
            "run_id": run,
            "step_run_id": step["id"],
            "device": job.device,
            "tag": "pump_speed",
            "unit": "rpm",
            "before_value": json.dumps(self._random.randint(30, 50)),
            "requested_value": "40",
            "after_value": "40" if ok else json.dumps(self._random.randint(0, 39)),
            "state": "confirmed" if ok else "mismatch",
            "verified": ok,
            "restored": False,
            "reason": "" if ok else str(step["error"]),
            "requested_at": step["started_at"],
            "concluded_at": step["ended_at"],
        }

    def _decision(self, run: UUID, step: Row, at: datetime) -> Row:
        return {
            "id": self._id(at),
            "run_id": run,
            "step_run_id": step["id"],
            "step": step["step"],
            "verdict": self._random.choice(("done", "not-done", "retry")),
            "person": self._random.choice(("ines", "marek", "sofia")),
            "comment": "looked at the machine",
            "at": at + timedelta(minutes=self._random.randint(3, 90)),
        }

    def _id(self, at: datetime) -> UUID:
        """Return an id as version 7 makes it, of a moment and of the seed; its last byte is 0."""
        milliseconds = int(at.timestamp() * 1000)
        tail = self._random.getrandbits(66) << 8
        value = milliseconds << 80 | 7 << 76 | (tail >> 62) << 64 | 2 << 62 | tail & (1 << 62) - 1
        return UUID(int=value)


def load(store: Store, plant: Plant, steps: int | None = None) -> dict[str, int]:
    """Put a plant's history in a store with empty tables; return how many rows each got.

    With ``steps`` it stops after so many step rows.
    """
    waiting: dict[str, list[list[Any]]] = {}
    counts: dict[str, int] = {}
    names = {table: [c.name for c in models.metadata.tables[table].columns] for table in _TABLES}
    for table, row in plant.history(steps):
        waiting.setdefault(table, []).append([row.get(name) for name in names[table]])
        counts[table] = counts.get(table, 0) + 1
        if len(waiting.get("step_run", ())) >= _AT_ONCE:
            _write(store, names, waiting)
    _write(store, names, waiting)
    with store.transaction() as connection:
        for name in _TABLES:
            if store.is_server:
                connection.execute(sa.text(f"ANALYZE TABLE {name}"))
        if not store.is_server:
            connection.execute(sa.text("ANALYZE"))
    return counts


_TABLES = ("job_run", "step_run", "slot", "device_command", "decision", "quality_result")


def _write(store: Store, names: dict[str, list[str]], waiting: dict[str, list[list[Any]]]) -> None:
    with store.transaction() as connection:
        for table, rows in waiting.items():
            bulk_insert(connection, table, names[table], rows)
    waiting.clear()
