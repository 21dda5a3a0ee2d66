"""The files of the device bridge, what counts as a change, and what is remembered."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bridge_changes import Bucket, Changes, as_event
from services.bridge_ledger import Ledger
from smartops.drivers.readings import Quality, Reading
from smartops.errors import BadInput, TemplateError
from smartops.jobs.event_sources import MessageSource, TagSource, counts, load_sources

TAGS: dict[str, Any] = {"name": "a", "kind": "tags", "device": "d", "tags": ["x"]}


def reading(value: Any, quality: Quality = "good", tag: str = "level") -> Reading:
    reason = "" if quality == "good" else "BadSensorFailure"
    return Reading(tag, value, "%", quality, reason, datetime(2026, 1, 1, tzinfo=UTC))


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: []", "at least 1 item"),
        ("x: 1", "Field required"),
        ("sources: [{name: A, kind: tags, device: d, tags: [x]}]", "should match pattern"),
        ("sources: [{name: a, kind: mail}]", "does not match any of the expected tags"),
        ("sources: [{name: a, kind: tags, device: d, tags: []}]", "at least 1 item"),
        ("sources: [{name: a, kind: tags, device: d, tags: [x, x]}]", "stands there twice"),
        ("sources: [{name: a, kind: tags, device: d, tags: [x], qos: 1}]", "Extra inputs"),
        ("sources: [{name: a, kind: tags, device: d, tags: [x], at_most: 5/day}]", "a rate looks"),
        ("sources: [{name: a, kind: tags, device: d, tags: [x], every: 1ms}]", "each 50ms"),
        (
            "sources: [{name: a, kind: tags, device: d, tags: [x], when: '{{ steps.x }}'}]",
            "'steps' is unknown; expressions start with event.",
        ),
        ("sources: [{name: a, kind: tags, device: d, tags: [x], when: 'yes'}]", "no expression"),
        (
            "sources: [{name: a, kind: messages, broker: b, topic: t, id: event.payload.order}]",
            "is the same for all",
        ),
        (
            "sources: [{name: a, kind: messages, broker: b, topic: t, id: '{{ params.x }}'}]",
            "'params' is unknown",
        ),
        (
            "sources: [{name: a, kind: tags, device: d, tags: [x]}, "
            "{name: a, kind: messages, broker: b, topic: t}]",
            "two sources have the name 'a'",
        ),
        ("sources: [", "cannot be read"),
    ],
)
def test_files_with_mistakes(tmp_path: Path, text: str, said: str) -> None:
    """Each is told with the file and the place."""
    file = tmp_path / "sources.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=r"sources\.yaml") as error:
        load_sources(file)
    assert said in error.value.one_line


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        load_sources(tmp_path / "no.yaml")


def test_what_counts() -> None:
    """``when`` decides, and has to give true or false."""
    source = TagSource(**TAGS, when="{{ event.value > 80 }}")
    assert counts(source, {"value": 81})
    assert not counts(source, {"value": 80})
    assert counts(TagSource(**TAGS), {})
    with pytest.raises(TemplateError, match="neither true nor false"):
        counts(TagSource(**TAGS, when="{{ event.value }}"), {"value": 3})
    with pytest.raises(TemplateError):
        counts(source, {"value": None})


@pytest.mark.parametrize(
    ("text", "rate"), [("5/second", (5, 1)), ("100/minute", (100, 60)), ("2/hour", (2, 3600))]
)
def test_rates(text: str, rate: tuple[int, float]) -> None:
    assert MessageSource(name="a", broker="b", topic="t", at_most=text).rate == rate


# --- rates and changes ----------------------------------------------------------------------------


@given(
    count=st.integers(1, 20),
    seconds=st.sampled_from([1.0, 60.0]),
    steps=st.lists(st.floats(0, 30), max_size=60),
)
def test_never_more_than_the_rate(count: int, seconds: float, steps: list[float]) -> None:
    """In no stretch of time go more through than the rate lets, and at most ``count`` at once."""
    bucket, now, let_through = Bucket(count, seconds), 0.0, []
    for step in steps:
        now += step
        while bucket.wait_s(now) == 0:
            bucket.take(now)
            let_through.append(now)
    for index, begin in enumerate(let_through):
        within = sum(1 for at in let_through[index:] if at - begin < seconds)
        assert within <= 2 * count  # what was saved up, and what came meanwhile
        assert sum(1 for at in let_through if at == begin) <= count


def test_waiting_for_the_rate() -> None:
    bucket = Bucket(2, 1.0)
    bucket.take(0.0)
    bucket.take(0.0)
    assert bucket.wait_s(0.0) == pytest.approx(0.5)
    assert bucket.wait_s(0.5) == 0


def values(changes: Changes) -> list[tuple[Any, Any, int]]:
    return [(c.before and c.before.value, c.now.value, c.missed) for c in changes.due()]


def take(changes: Changes) -> None:
    for change in changes.due():
        changes.take(change)


def test_changes() -> None:
    """The first value is none; within the deadband there is none; each counts once."""
    changes = Changes({"level": 2.0}, 0.0, bad_counts=False)
    first = reading(50.0)
    assert changes.see(first, 0.0) is first
    assert changes.see(reading(51.9), 1.0) is None
    assert changes.due() == []
    changes.see(reading(53.0), 2.0)
    assert values(changes) == [(50.0, 53.0, 0)]
    take(changes)
    changes.look(3.0)
    assert (changes.due(), changes.next_in_s(3.0)) == ([], None)


def test_a_value_has_to_stand() -> None:
    """Bounces do not count; what came back is forgotten; also when nobody looks meanwhile."""
    changes = Changes({}, 2.0, bad_counts=False)
    changes.see(reading(False), 0.0)
    changes.see(reading(True), 1.0)
    assert changes.next_in_s(1.5) == pytest.approx(1.5)
    changes.see(reading(False), 2.0)
    changes.look(10.0)
    assert changes.due() == []
    changes.see(reading(True), 11.0)
    changes.see(reading(True), 12.0)
    changes.look(12.9)
    assert changes.due() == []
    changes.look(13.0)
    assert values(changes) == [(False, True, 0)]
    changes.see(reading(False), 600.0)
    changes.see(reading(True), 700.0)
    assert values(changes) == [(False, False, 1)]


def test_changes_that_come_too_fast() -> None:
    """The latest stands for those before it, and says how many; also when it is the old value."""
    changes = Changes({}, 0.0, bad_counts=False)
    changes.see(reading(0), 0.0)
    for at, value in ((1.0, 1), (2.0, 2), (3.0, 3)):
        changes.see(reading(value), at)
    assert values(changes) == [(0, 3, 2)]
    changes.see(reading(0), 4.0)
    assert values(changes) == [(0, 0, 3)]
    [change] = changes.due()
    event = as_event("source", "device", change)
    assert (event["before"], event["missed"], event["tag"]) == (0, 3, "level")


def test_what_is_wanted_is_not_replaced_by_what_is_not() -> None:
    """An alarm that has to wait for the rate is told, though the value is well again."""
    changes = Changes({}, 0.0, bad_counts=False, is_wanted=lambda c: c.now.value > 80)  # type: ignore[operator]
    for at, value in enumerate((50, 90, 50, 60)):
        changes.see(reading(value), float(at))
    assert values(changes) == [(50, 90, 2)]
    take(changes)
    changes.see(reading(95), 10.0)
    assert values(changes) == [(60, 95, 0)]


def test_a_bad_value() -> None:
    """It counts where that is wanted, and never has a value; uncertain is no other value."""
    for wanted in (False, True):
        changes = Changes({}, 0.0, bad_counts=wanted)
        changes.see(reading(5), 0.0)
        changes.see(reading(5, "uncertain"), 0.5)
        assert changes.due() == []
        changes.see(reading(None, "bad"), 1.0)
        found = [(c.now.quality, c.now.value) for c in changes.due()]
        assert found == ([("bad", None)] if wanted else [])


def test_while_it_is_bad_nothing_stands() -> None:
    """A value that was seen once before the sensor failed has not stood."""
    changes = Changes({}, 2.0, bad_counts=False)
    changes.see(reading(False), 0.0)
    changes.see(reading(True), 1.0)
    changes.see(reading(None, "bad"), 2.0)
    changes.see(reading(None, "bad"), 3.5)
    changes.see(reading(False), 4.0)
    changes.look(10.0)
    assert changes.due() == []


def test_what_changes_while_another_is_dealt_with() -> None:
    """It counts next, against the one that was dealt with."""
    changes = Changes({}, 0.0, bad_counts=False)
    changes.see(reading(0), 0.0)
    changes.see(reading(1), 1.0)
    take(changes)
    changes.see(reading(2), 2.0)
    assert values(changes) == [(1, 2, 0)]


def test_what_was_known_before() -> None:
    """A value that changed while nobody looked counts."""
    changes = Changes({}, 0.0, bad_counts=False)
    changes.known(reading(1))
    assert changes.see(reading(2), 0.0) is None
    assert values(changes) == [(1, 2, 0)]


# --- what is remembered ---------------------------------------------------------------------------


def test_an_event_is_taken_once(tmp_path: Path) -> None:
    """Also by another process, and after the end of this one; its id stays the same."""
    ledger = Ledger(tmp_path / "bridge.sqlite")
    first = ledger.take("orders", "id:7", {"n": 7})
    assert not first.done
    assert [taken.key for taken in ledger.unfinished("orders")] == ["id:7"]
    assert ledger.unfinished("other") == []
    ledger.done(first, None)
    ledger.close()
    again = Ledger(tmp_path / "bridge.sqlite")
    second = again.take("orders", "id:7", {"n": 8})
    assert (second.done, second.event, second.event_id) == (True, {"n": 7}, first.event_id)
    assert again.take("other", "id:7", {}).event_id != first.event_id
    again.close()


def test_what_could_not_be_used_may_come_again(tmp_path: Path) -> None:
    """Sent once more when the job is not paused any more, it counts; so does the same in a week."""
    ledger = Ledger(tmp_path / "bridge.sqlite")
    first = ledger.take("orders", "id:7", {"n": 7})
    ledger.done(first, None, "the job is paused")
    assert [problem["problem"] for problem in ledger.problems()] == ["the job is paused"]
    second = ledger.take("orders", "id:7", {"n": 7})
    assert not second.done
    run = uuid4()
    ledger.started(second, run)
    assert ledger.take("orders", "id:7", {}).run_id == run
    ledger.done(second, run)
    assert ledger.take("orders", "id:7", {}).done
    week = 8 * 86_400
    with sqlite3.connect(tmp_path / "bridge.sqlite") as db:
        db.execute("UPDATE taken SET at = at - ?", (week,))
    db.close()
    later = ledger.take("orders", "id:7", {})
    assert (later.done, later.event_id == second.event_id) == (False, False)
    ledger.forget_old()
    assert len(ledger.unfinished("orders")) == 1
    ledger.close()


def test_a_message_that_is_sent_again(tmp_path: Path) -> None:
    """It is known by its content as long as nobody told the broker that it came."""
    ledger = Ledger(tmp_path / "bridge.sqlite")
    ledger.take("orders", "k", {}, "hash")
    assert ledger.sent_before("orders", "hash") == "k"
    assert ledger.sent_before("orders", "other") is None
    ledger.acknowledging("orders", "k")
    assert ledger.sent_before("orders", "hash") == "k"
    ledger.confirmed("orders", ["k"])
    assert ledger.sent_before("orders", "hash") is None
    ledger.close()


def test_the_state_of_sources(tmp_path: Path) -> None:
    """News are told from what is known; counting keeps the state; what is gone is forgotten."""
    ledger = Ledger(tmp_path / "bridge.sqlite")
    assert ledger.say("a", "listening")
    assert not ledger.say("a", "listening")
    ledger.count("a", {"received": 1})
    ledger.count("a", {"missed": 3})
    assert ledger.say("a", "away", "no answer")
    ledger.say("b", "listening")
    [a, b] = ledger.sources()
    assert (a.state, a.problem, a.counts["received"], a.counts["missed"]) == (
        "away",
        "no answer",
        1,
        3,
    )
    ledger.forget_sources({b.name})
    assert [source.name for source in ledger.sources()] == ["b"]
    ledger.close()


def test_a_reading_goes_there_and_back() -> None:
    found = Reading("t", [1, 2], "C", "uncertain", "old", datetime.now(UTC), datetime.now(UTC))
    assert Reading.from_json(found.as_json()) == found
    bare = reading(3)
    assert Reading.from_json(bare.as_json()) == bare
