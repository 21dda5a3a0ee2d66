"""Whether a run of a schedule may start: overlap, missed runs, days off, backfills."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from smartops.jobs.admission import MISSED, Candidate, admit
from smartops.jobs.calendars import reason_to_skip
from smartops.jobs.scheduling import Schedule, SkipOn
from smartops.jobs.spec import JobSpec

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)  # a Monday


def job(**fields: Any) -> JobSpec:
    step = {"id": "a", "kind": "wait", "duration": "1s"}
    return JobSpec.model_validate({"name": "j", "steps": [step], **fields})


def run(minutes_ago: float, number: int = 1, **fields: Any) -> Candidate:
    return Candidate(UUID(int=number), NOW - timedelta(minutes=minutes_ago), **fields)


ACTIVE = run(60, 10, active=True)
QUEUED = run(0.5, 11, held=True)


@pytest.mark.parametrize(
    ("overlap", "others", "action"),
    [
        ("allow", [ACTIVE], "go"),
        ("skip", [ACTIVE], "skip"),
        ("skip", [], "go"),
        ("queue_one", [ACTIVE], "wait"),
        ("queue_one", [ACTIVE, QUEUED], "skip"),
        ("queue_all", [ACTIVE, QUEUED], "wait"),
        ("cancel_running", [ACTIVE], "wait"),
        ("cancel_running", [], "go"),
        ("queue_all", [run(-1, 12)], "go"),
    ],
)
def test_overlap(overlap: str, others: list[Candidate], action: str) -> None:
    """What happens to a run that is due while one of the same job is under way."""
    admission = admit(job(overlap=overlap), run(0), others, NOW)
    assert admission.action == action
    assert admission.cancel == ((ACTIVE.id,) if overlap == "cancel_running" and others else ())
    assert bool(admission.reason) is (action != "go")


def test_runs_by_hand_always_go() -> None:
    """Somebody who asks for a run gets it, whatever the policies for schedules say."""
    policy = job(overlap="skip", missed={"run": "skip"}, skip_on={"dates": ["2026-03-02"]})
    assert admit(policy, run(600, kind="manual"), [ACTIVE], NOW).action == "go"


@pytest.mark.parametrize(
    ("missed", "late", "others", "action"),
    [
        ({"run": "skip"}, 10, [], "skip"),
        ({"run": "skip"}, 0.5, [], "go"),
        ({"run": "skip", "grace": "20m"}, 10, [], "go"),
        ({"run": "last"}, 10, [], "go"),
        ({"run": "last"}, 10, [run(5, 12)], "skip"),
        ({"run": "last", "within": "1h"}, 90, [], "skip"),
        ({"run": "all"}, 10, [run(5, 12)], "go"),
        ({"run": "all"}, 10, [run(20, 12)], "wait"),
        ({"run": "all", "parallel": 2}, 10, [run(20, 12)], "go"),
        ({"run": "all", "parallel": 2}, 10, [run(30, 12), run(20, 13, active=True)], "wait"),
    ],
)
def test_missed(missed: dict[str, str], late: float, others: list[Candidate], action: str) -> None:
    """What becomes of a run that could not start when it was due."""
    policy = job(missed=missed, overlap="allow")
    assert admit(policy, run(late), others, NOW).action == action


def test_a_run_that_was_held_back_was_not_missed() -> None:
    """It is late because another one was under way, and still has its turn."""
    policy = job(missed={"run": "skip"}, overlap="queue_all")
    assert admit(policy, run(10, held=True), [], NOW).action == "go"
    assert admit(policy, run(10), [], NOW).action == "skip"


def test_missed_runs_that_wait_stay_missed() -> None:
    """All of them run in the end, so many at once, whatever the overlap policy says."""
    policy = job(missed={"run": "all", "parallel": 1}, overlap="skip")
    first, second = run(30, 1, active=True), run(20, 2)
    waits = admit(policy, second, [first], NOW)
    assert waits.action == "wait"
    assert waits.reason.startswith(MISSED), "by which the gate knows it at the next look"
    assert admit(policy, second, [], NOW).action == "go"


def test_two_schedules_may_fire_at_once() -> None:
    """They are two slots, each with its run."""
    policy = job(overlap="allow")
    twins = [run(0, 1, schedule="a"), run(0, 2, schedule="b")]
    assert admit(policy, twins[1], [twins[0]], NOW).action == "go"


def test_a_slot_has_one_run() -> None:
    """Of two runs of one slot the first goes, and the other one never."""
    policy = job(overlap="allow")
    twins = [run(0, 1), run(0, 2)]
    assert admit(policy, twins[0], [twins[1]], NOW).action == "go"
    assert admit(policy, twins[1], [twins[0]], NOW).action == "skip"
    assert admit(policy, twins[0], [run(0, 2, active=True)], NOW).action == "skip"


def test_a_backfill_has_its_own_limit() -> None:
    """It neither waits for other runs nor is it missed; so many of its own run at once."""
    fields: dict[str, Any] = {"kind": "backfill", "batch": "b", "parallel": 2}
    policy = job(overlap="skip", missed={"run": "skip"})
    of_batch = [run(9000, 2, active=True, **fields), run(8000, 3, **fields)]
    assert admit(policy, run(7000, **fields), [ACTIVE, of_batch[0]], NOW).action == "go"
    assert admit(policy, run(7000, **fields), of_batch, NOW).action == "wait"


@pytest.mark.parametrize("overlap", ["allow", "skip", "queue_one", "queue_all", "cancel_running"])
def test_a_backfill_stands_in_nobodys_way(overlap: str) -> None:
    """The schedule goes on beside it, whatever the overlap policy says."""
    fields: dict[str, Any] = {"kind": "backfill", "batch": "b"}
    of_batch = [run(9000, 2, active=True, **fields), run(8000, 3, **fields)]
    assert admit(job(overlap=overlap), run(0), of_batch, NOW).action == "go"


def test_schedules_are_missed_each_by_itself() -> None:
    """The last slot of one schedule is not made up for by another one's."""
    policy = job(missed={"run": "last"}, overlap="allow")
    later = run(5, 12, schedule="line-2")
    assert admit(policy, run(10, schedule="line-1"), [later], NOW).action == "go"
    assert admit(policy, run(10, schedule="line-2"), [later], NOW).action == "skip"


SKIP = SkipOn.model_validate(
    {
        "holidays": ["DE-BY"],
        "dates": ["2026-12-24"],
        "between": [{"start": "22:00", "end": "06:00", "days": ["sat"]}],
    }
)


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        ("2026-01-06T12:00+01:00", "Epiphany"),
        ("2026-01-06T23:30+00:00", ""),
        ("2026-01-05T23:30+00:00", "Epiphany"),
        ("2026-12-24T00:00+01:00", "not to start"),
        ("2026-03-07T22:00+01:00", "22:00 to 06:00"),
        ("2026-03-08T05:59+01:00", "22:00 to 06:00"),
        ("2026-03-08T06:00+01:00", ""),
        ("2026-03-08T22:30+01:00", ""),
    ],
)
def test_days_and_times_off(moment: str, reason: str) -> None:
    """Holidays, single days and times of day, in the schedule's own zone."""
    found = reason_to_skip(SKIP, datetime.fromisoformat(moment), "Europe/Berlin")
    assert (reason in found) if reason else not found


def test_the_zone_of_days_off() -> None:
    """Days and times may be those of another place than the schedule's."""
    moment = datetime(2026, 12, 24, 23, 30, tzinfo=UTC)
    here = SkipOn.model_validate({"dates": ["2026-12-24"]})
    there = here.model_copy(update={"timezone": "Asia/Tokyo"})
    assert reason_to_skip(here, moment, "UTC")
    assert not reason_to_skip(there, moment, "UTC")


def test_a_window_in_the_night_of_the_clock_change() -> None:
    """From 01:30 to 03:30 is one hour on the day on which the clocks are put forward."""
    window = {"between": [{"start": "01:30", "end": "03:30"}]}
    night = SkipOn.model_validate(window)
    inside = datetime(2026, 3, 29, 0, 45, tzinfo=UTC)
    outside = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert reason_to_skip(night, inside, "Europe/Berlin")
    assert not reason_to_skip(night, outside, "Europe/Berlin")


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"cron": "* * * * *", "every": "1m"},
        {"cron": "0 6 * * *", "timezone": "Mars/Base"},
        {"every": "500ms"},
        {"every": "1h", "start": "2026-01-01T00:00:00"},
        {"cron": "0 6 * * *", "start": "2026-01-01T00:00:00Z"},
        {"cron": "* * * * * *"},
        {"rrule": "FREQ=DAILY;INTERVAL=0"},
        {"cron": "0 6 * * *", "timezone": "localtime"},
        {"every": "1h", "start": "0001-01-01T00:00:00Z"},
    ],
)
def test_schedules_that_make_no_sense(bad: dict[str, str]) -> None:
    """They are refused when the job is read."""
    with pytest.raises(ValidationError):
        Schedule.model_validate(bad)


@pytest.mark.parametrize("bad", [["XX"], ["DE-XX"], ["de by"], ["HolidayBase"], ["DE-"]])
def test_unknown_holidays(bad: list[str]) -> None:
    """A place whose holidays nobody knows would never skip anything."""
    with pytest.raises(ValidationError, match="no holidays are known"):
        SkipOn.model_validate({"holidays": bad})
