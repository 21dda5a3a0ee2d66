"""Pure rules: retries, checks, summaries, records, the walk over a plan."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uuid6 import uuid7

from flows.step_calls import StepCalls
from flows.walk import Start, StepOutcome, Walk
from smartops import errors
from smartops.audit.events import MAX_FIELD_BYTES, Event
from smartops.jobs import graph, loader
from smartops.jobs.answers import NOBODY
from smartops.jobs.checking import run_checks
from smartops.jobs.graph import Plan
from smartops.jobs.kinds import STEP_KINDS
from smartops.jobs.kinds.check import Check
from smartops.jobs.kinds.wait import Wait
from smartops.jobs.spec import JobSpec
from smartops.jobs.step import Retry, StepBase
from smartops.vocabulary import Effect
from tasks.rest import effect_of_request
from tasks.step import should_retry
from tasks.wait import _until


@pytest.mark.parametrize(
    ("error", "on", "again"),
    [
        (errors.DeviceTimeout("x"), ("TransientError",), True),
        (errors.DeviceTimeout("x"), ("DeviceTimeout",), True),
        (errors.DeviceTimeout("x"), ("DeviceBusy",), False),
        (errors.WriteMismatch("x"), ("TransientError",), False),
        (errors.WriteMismatch("x"), ("WriteMismatch",), True),
        (errors.UnknownOutcome("x"), ("TransientError", "PermanentError"), False),
        (ValueError("x"), ("TransientError",), False),
        (None, ("TransientError",), False),
    ],
)
def test_when_to_try_again(error: object, on: tuple[str, ...], again: bool) -> None:
    """By class or by branch of the tree; an unknown outcome never, a foreign error never."""
    assert should_retry(error, Retry(on=on), Effect.READ) is again


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (errors.BadAnswer("taken, but unreadable"), False),
        (errors.ExpectationFailed("x"), False),
        (errors.WriteMismatch("x"), False),
        (errors.DeviceUnreachable("nothing was sent"), True),
    ],
)
def test_an_unsafe_step_is_not_repeated_after_its_effect(error: object, again: bool) -> None:
    """Whatever the job asks for."""
    everything = Retry(on=("TransientError", "PermanentError"))
    assert should_retry(error, everything, Effect.UNSAFE) is again
    assert should_retry(error, everything, Effect.READ) is True


def test_unknown_outcome_cannot_be_named_in_retry() -> None:
    """The language has no way to ask for blind repetition."""
    assert "UnknownOutcome" not in errors.error_names()


@pytest.mark.parametrize(
    ("method", "key", "effect"),
    [("GET", False, "read"), ("PUT", False, "idempotent"), ("POST", False, "unsafe"),
     ("PATCH", False, "unsafe"), ("POST", True, "idempotent"), ("DELETE", False, "idempotent")],
)  # fmt: skip
def test_the_effect_of_a_request(method: str, key: bool, effect: str) -> None:
    """A POST is unsafe unless it carries an idempotency key."""
    assert effect_of_request({"method": method, "idempotency_key": key}) == effect


def test_checks_say_what_does_not_hold() -> None:
    """Each failed check is a sentence with both values and the user's own words."""
    checks = [
        Check(left=3, op="<", right=5),
        Check(left=12, op="<=", right=10, message="too fast"),
        Check(left="a", op="<", right=1),
    ]
    results = run_checks(checks)
    assert [result.holds for result in results] == [True, False, False]
    assert results[1].sentence == "too fast: 12 is not <= 10"
    assert results[2].sentence == "str and int cannot be compared with <"


@pytest.mark.parametrize("kind", sorted(STEP_KINDS))
def test_a_summary_never_fails(kind: str) -> None:
    """An output that was cut in the record is shown cut, not as a crash."""
    for output in (None, {}, {"truncated": True}, "text", [1], {"readings": 5}):
        assert isinstance(STEP_KINDS[kind].brief(output), str)


def test_a_record_holds_odd_values() -> None:
    """Infinity, bytes, sets and very long texts become JSON that every reader takes."""
    deep: list[Any] = []
    for _ in range(900):
        deep = [deep]
    body = {"a": float("inf"), "b": b"x", "c": {1, 2}, "d": "x" * (MAX_FIELD_BYTES + 1)}
    body |= {"e": "\ud800", "f": deep}
    text = Event("run.ended", uuid7(), body).body_text()
    assert '"truncated": true' in text
    assert '"inf"' in text
    assert len(text) < 5000


def _job(needs: dict[str, set[str]]) -> JobSpec:
    steps = [
        Wait.model_validate({"id": n, "duration": "1s", "needs": sorted(w)})
        for n, w in needs.items()
    ]
    return JobSpec(name="j", steps=tuple(steps))


async def walk(plan: Plan, start: Start) -> dict[str, StepOutcome]:
    walking = Walk(plan, start)
    await walking.steps()
    return walking.outcomes


@given(st.data())
def test_a_walk_starts_what_it_can_and_skips_what_it_must(data: st.DataObject) -> None:
    """In any job with any failures: no step before its needs, all skipped behind a failure."""
    names = [f"s{n}" for n in range(data.draw(st.integers(1, 10)))]
    needs = {
        name: data.draw(st.sets(st.sampled_from(names[:index]))) if index else set()
        for index, name in enumerate(names)
    }
    failing = data.draw(st.sets(st.sampled_from(names)))
    started: list[str] = []
    done: set[str] = set()

    async def start(step: StepBase) -> StepOutcome:
        assert needs[step.id] <= done
        started.append(step.id)
        await asyncio.sleep(0)
        if step.id in failing:
            return StepOutcome("failed", error=ValueError(step.id))
        done.add(step.id)
        return StepOutcome("completed")

    outcomes = asyncio.run(walk(graph.compile(_job(needs)), start))
    assert list(outcomes) == names
    assert len(started) == len(set(started))
    for name, outcome in outcomes.items():
        blocked = any(outcomes[need].state != "completed" for need in needs[name])
        expected = "skipped" if blocked else ("failed" if name in failing else "completed")
        assert outcome.state == expected


async def test_independent_steps_run_at_the_same_time() -> None:
    """Two steps that meet each other can only end if both are under way."""
    meeting = asyncio.Barrier(2)

    async def start(_step: StepBase) -> StepOutcome:
        async with asyncio.timeout(5):
            await meeting.wait()
        return StepOutcome("completed")

    outcomes = await walk(graph.compile(_job({"a": set(), "b": set()})), start)
    assert {outcome.state for outcome in outcomes.values()} == {"completed"}


async def test_a_cancelled_walk_ends_its_steps() -> None:
    """Cancelling waits for the steps' own clean-up."""
    cleaned: list[Any] = []
    under_way = asyncio.Event()

    async def start(step: StepBase) -> StepOutcome:
        try:
            under_way.set()
            await asyncio.sleep(3600)
        finally:
            cleaned.append(step.id)
        raise AssertionError

    walking = asyncio.create_task(walk(graph.compile(_job({"a": set()})), start))
    await under_way.wait()
    walking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await walking
    assert cleaned == ["a"]


async def test_how_often_a_condition_is_looked_at() -> None:
    """As often as the job says; what cannot be looked at for the moment is no answer."""
    looks: list[float] = []

    async def look() -> tuple[bool, str]:
        looks.append(asyncio.get_running_loop().time())
        if len(looks) == 2:
            raise errors.DeviceTimeout("later")
        return len(looks) == 4, "it is so"

    assert await _until(look, timedelta(milliseconds=40)) == "it is so"
    assert len(looks) == 4
    assert all(b - a >= 0.039 for a, b in pairwise(looks))


def test_who_has_approved_a_step() -> None:
    """The persons of the approvals that it comes behind; that the time was over is nobody's yes."""
    job = loader.loads(
        "name: j\nsteps:\n"
        "  - {id: a, kind: approval, text: x}\n"
        "  - {id: b, kind: approval, text: x, needs: [a], within: 1m, if_nobody: grant}\n"
        "  - {id: c, kind: wait, duration: 1s, needs: [b]}\n"
        "  - {id: d, kind: wait, duration: 1s}\n"
    )
    run: Any = SimpleNamespace(plan=graph.compile(job), outputs={}, _approvals={"a", "b"})
    run.outputs = {"a": {"person": "ann"}, "b": {"person": NOBODY}}
    assert StepCalls._approvers(run, "c") == "ann"
    assert StepCalls._approvers(run, "d") == ""
    run.outputs = {"b": {"person": NOBODY}}
    assert StepCalls._approvers(run, "c") == ""
