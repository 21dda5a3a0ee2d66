"""A plant's checks of data: readings each quarter of an hour, the record itself each morning."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

Row = dict[str, Any]
NewId = Callable[[datetime], UUID]


@dataclass(frozen=True)
class Expectation:
    """What a suite expects of some rows, and what is usual."""

    dataset: str
    name: str
    subject: str
    fails: float
    """The share of the checks in which some rows do not meet it."""
    warn: float | None = None
    fail: float | None = 0.0
    """Above which percents of bad rows it warns, and fails."""
    of_rows: bool = True


@dataclass(frozen=True)
class Suite:
    """A suite, the job that looks at it, when, and how many rows there are."""

    name: str
    job: str
    every: timedelta
    after: timedelta
    rows: int
    expectations: tuple[Expectation, ...]


SUITES = (
    Suite(
        "readings", "tank-levels", timedelta(minutes=15), timedelta(minutes=2), 24,
        (
            Expectation("readings", "table_row_count_to_be_between", "table", 0.001, of_rows=False),
            Expectation("readings", "column_values_to_not_be_null", "value", 0.02, fail=20.0),
            Expectation("readings", "column_values_to_be_in_set", "quality", 0.05, 0.0, 20.0),
            Expectation(
                "readings", "column_values_to_be_between", "value where tag = tank_level", 0.01
            ),
        ),
    ),
    Suite(
        "audit", "data-quality", timedelta(days=1), timedelta(hours=4, minutes=10), 3000,
        (
            Expectation("ends", "column_values_to_not_be_null", "ended_at", 0.01),
            Expectation(
                "runs", "column_pair_values_a_to_be_greater_than_b", "ended_at, started_at", 0.004
            ),
            Expectation("sequences", "column_pair_values_to_be_equal", "events, last_number", 0.0),
        ),
    ),
)  # fmt: skip


def checks(
    chance: random.Random, start: datetime, end: datetime, new_id: NewId
) -> Iterator[tuple[str, Row]]:
    """Yield table names and rows of all checks between two moments, suite by suite."""
    for suite in SUITES:
        at = start + suite.after
        while at < end:
            yield from _check(suite, chance, at, new_id)
            at += suite.every


def _check(
    suite: Suite, chance: random.Random, at: datetime, new_id: NewId
) -> Iterator[tuple[str, Row]]:
    run, step = new_id(at), new_id(at)
    began = at + timedelta(seconds=chance.uniform(0.2, 2))
    told = began + timedelta(seconds=chance.uniform(3, 8))
    results = [
        _result(suite, expected, chance, told + timedelta(milliseconds=2 * number))
        for number, expected in enumerate(suite.expectations)
    ]
    own = {"run_id": run, "step_run_id": step, "suite": suite.name}
    for result in results:
        yield "quality_result", {"id": new_id(result["at"]), **own, **result}
    failed = [result["sentence"] for result in results if result["status"] == "failed"]
    ended = told + timedelta(milliseconds=80)
    times = {"started_at": began, "ended_at": ended, "host": "cell-1", "pid": 4711}
    state = "failed" if failed else "completed"
    error = f"suite '{suite.name}': {'; '.join(failed)}" if failed else None
    about = {"run_id": run, "step": "check", "kind": "check.quality", "effect": "read"}
    tried = {"attempt": 1, "inputs": "{}", "output": None if failed else "{}"}
    why = {"error": error, "error_class": "ExpectationFailed" if failed else None}
    yield "step_run", {"id": step, "state": state, **about, **tried, **why, **times}
    whose = {"job": suite.job, "kind": "job", "flow": "run-job", "requested_by": "schedule"}
    rest = {"params": "{}", "told_by": "own", "rehearsal": False, "log_lines": 0}
    yield "job_run", {"id": run, "state": state, "message": error or "", **whose, **rest, **times}


def _result(suite: Suite, expected: Expectation, chance: random.Random, at: datetime) -> Row:
    unmet = chance.random() < expected.fails
    bad = chance.randint(1, max(suite.rows // 3, 1)) if unmet and expected.of_rows else 0
    share = 100 * bad / suite.rows if expected.of_rows else None
    status = "passed"
    if unmet and (share is None or (expected.fail is not None and share > expected.fail)):
        status = "failed"
    elif unmet and expected.warn is not None and share is not None and share > expected.warn:
        status = "warned"
    found = f"{bad} of {suite.rows} rows do not meet it" if unmet else "all rows meet it"
    return {
        "dataset": expected.dataset,
        "expectation": expected.name,
        "subject": expected.subject,
        "status": status,
        "checked_rows": suite.rows,
        "bad_rows": bad,
        "bad_share": share,
        "warn_above": expected.warn,
        "fail_above": expected.fail,
        "sentence": f"{expected.subject}: {expected.name.replace('_', ' ')}: {found}",
        "quarantined": bad,
        "at": at,
    }
