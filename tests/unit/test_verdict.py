"""What is put on record of runs whose process died, and of slots: decided without any effect."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from uuid6 import uuid7

from services.slots import Slot, outcome_of, slot_id
from smartops.audit.open_runs import Claim, LastWord, OpenRun, OpenStep
from smartops.audit.verdict import of_dead_run

NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)
RUN = OpenRun(uuid7(), "line-check", "host-1", 4711, uuid7(), uuid7(), NOW, "own")


def a_step(name: str, effect: str, sent: int = 0) -> OpenStep:
    return OpenStep(uuid7(), name, "k", effect, sent)


def a_claim(status: int | None, cause: str | None = None) -> Claim:
    exited = NOW if status is not None else None
    return Claim(uuid7(), RUN.id, "w", uuid7(), uuid7(), 4711, NOW, exited, status, cause)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "its process died"),
        (-9, "its process died (killed by SIGKILL)"),
        (-1000, "its process died (killed by signal 1000)"),
        (3, "its process died (exit status 3)"),
    ],
)
def test_the_exit_status_in_words(status: int | None, words: str) -> None:
    """Signals by name; nothing is made up where it is not known."""
    (end,) = of_dead_run(RUN, [], None, a_claim(status))
    assert end.body["message"] == words
    assert end.body["evidence"]["exit_status"] == status
    assert end.body["state"] == "crashed"


def test_without_a_claim() -> None:
    """A run that no worker of ours started has no exit status, and an end all the same."""
    (end,) = of_dead_run(RUN, [], None, None)
    assert end.body["message"] == "its process died"


def test_steps_under_way() -> None:
    """What could have an effect has an unknown outcome; what only reads crashed and did no harm."""
    steps = [a_step("look", "read"), a_step("set", "unsafe", 1), a_step("put", "idempotent")]
    *ends, run = of_dead_run(RUN, steps, LastWord("command.intended", NOW), a_claim(-9))
    assert [end.body["state"] for end in ends] == ["crashed", "unknown_outcome", "unknown_outcome"]
    assert "1 device commands were announced" in ends[1].body["error"]
    assert {end.body["told_by"] for end in (*ends, run)} == {"reconciler"}
    assert run.body["message"] == (
        "its process died (killed by SIGKILL) during look, set, put; "
        "what set, put did has to be looked at"
    )
    assert run.body["evidence"]["unknown_outcome"] == ["set", "put"]
    assert run.body["evidence"]["last_record"]["type"] == "command.intended"


@pytest.mark.parametrize(("effect", "state"), [("read", "cancelled"), ("unsafe", "crashed")])
def test_a_run_that_was_being_cancelled(effect: str, state: str) -> None:
    """It is that, and no crashed one; but for what it may have done, which has to be looked at."""
    step = a_step("s", effect)
    _, run = of_dead_run(RUN, [step], None, a_claim(0), cancelled=True)
    assert run.body["state"] == state
    said = run.body["message"].startswith("it was being cancelled, and its process died (exit st")
    assert said is (state == "cancelled")


# --- slots ------------------------------------------------------------------------------------


def a_run(kind: StateType, message: str = "", started: float | None = None) -> FlowRun:
    state: State[Any] = State(type=kind, message=message)
    begun = NOW + timedelta(seconds=started) if started is not None else None
    count = 1 if begun else 0
    return FlowRun(flow_id=uuid7(), state=state, state_type=kind, start_time=begun, run_count=count)


SOON, LATER = timedelta(seconds=30), timedelta(minutes=5)


@pytest.mark.parametrize(
    ("run", "age", "expected"),
    [
        (None, SOON, None),
        (None, LATER, ("missed", "made no run")),
        (a_run(StateType.RUNNING, started=1), SOON, ("run", "")),
        (a_run(StateType.FAILED, started=1), LATER, ("run", "")),
        (a_run(StateType.COMPLETED, started=600), LATER, ("run", "started 600 s late")),
        (a_run(StateType.CANCELLED, "too many at once"), SOON, ("skipped", "too many at once")),
        (a_run(StateType.CANCELLED), SOON, ("skipped", "cancelled before it began")),
        (a_run(StateType.CRASHED, "no worker"), SOON, ("missed", "no worker")),
        (a_run(StateType.SCHEDULED), SOON, None),
        (a_run(StateType.SCHEDULED), LATER, ("missed", "no worker took it")),
        (a_run(StateType.PENDING), SOON, None),
    ],
)
def test_what_became_of_a_slot(
    run: FlowRun | None, age: timedelta, expected: tuple[str, str] | None
) -> None:
    """Run, skipped or missed, and why; nothing as long as it is open."""
    found = outcome_of(run, NOW, NOW + age)
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found[0] == expected[0]
        assert expected[1] in found[1]


def test_a_slot_is_one_however_often_it_is_told() -> None:
    """Its id comes from the deployment and the moment, in whatever zone it is written."""
    deployment = uuid7()
    berlin = NOW.astimezone(datetime.fromisoformat("2026-03-29T14:00:00+02:00").tzinfo)
    assert slot_id(deployment, "a", NOW) == slot_id(deployment, "a", berlin)
    assert slot_id(deployment, "a", NOW) != slot_id(deployment, "a", NOW + timedelta(seconds=1))
    assert slot_id(deployment, "a", NOW) != slot_id(deployment, "b", NOW)
    slot = Slot(deployment, "j", NOW, "{}", "a", "missed", "why", None)
    assert slot.event().run_id.int == 0
    assert slot.event().body["slot_id"] == str(slot_id(deployment, "a", berlin))
