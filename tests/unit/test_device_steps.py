"""What steps make of readings."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.devices import has_changed
from smartops.drivers.mqtt import Message
from smartops.drivers.opcua_tags import tag_names
from smartops.drivers.readings import Quality, Reading
from smartops.errors import BadAnswer
from smartops.jobs.kinds.wait import MessageCondition
from tasks.device import readings_found
from tasks.opcua import aged
from tasks.wait import is_wanted


def reading(quality: Quality) -> Reading:
    value = None if quality == "bad" else 7
    return Reading(quality, value, "bar", quality, "for a reason", datetime.now(UTC))


@pytest.mark.parametrize(
    ("require", "enough"),
    [
        ("good", {"good"}),
        ("uncertain", {"good", "uncertain"}),
        ("any", {"good", "uncertain", "bad"}),
    ],
)
def test_the_quality_that_is_required(require: Any, enough: set[str]) -> None:
    """What is below it fails the step, and says why; a bad reading never has a value."""
    for quality in ("good", "uncertain", "bad"):
        found = reading(quality)
        if quality in enough:
            output = readings_found("plc", [found], require, keep=False)
            assert output["readings"][quality]["quality"] == quality
            assert output["value"] == found.value
        else:
            with pytest.raises(BadAnswer, match=f"plc: no value for {quality}: {quality}: for a"):
                readings_found("plc", [found], require, keep=False)


def test_how_old_a_value_may_be() -> None:
    """An old one, and one of unknown age, is uncertain; it is never stamped anew."""
    now = datetime.now(UTC)
    fresh = Reading("t", 1, "", "good", "", now, now - timedelta(seconds=5))
    assert aged(fresh, None) is fresh
    assert aged(fresh, timedelta(seconds=5)) is fresh
    old = aged(fresh, timedelta(seconds=4))
    assert (old.quality, old.reason, old.source_at) == (
        "uncertain",
        "it is 5s old",
        fresh.source_at,
    )
    assert aged(replace(fresh, source_at=None), timedelta(hours=1)).quality == "uncertain"
    bad = replace(fresh, quality="bad", value=None)
    assert aged(bad, timedelta()) is bad


def test_what_is_a_change() -> None:
    """Beyond the deadband, or in quality; texts and switches at once."""
    now = Reading("t", 10.0, "", "good", "", datetime.now(UTC))
    assert not has_changed(now, replace(now, value=10.5), 0.5)
    assert has_changed(now, replace(now, value=10.6), 0.5)
    assert has_changed(now, replace(now, value=10.0, quality="uncertain"), 0.5)
    assert has_changed(replace(now, value="a"), replace(now, value="b"), 0.5)


def test_names_for_what_a_server_has() -> None:
    """Small letters, no two alike, whatever the server calls them."""
    paths = ["Line/SpeedSetpoint", "Line/Speed setpoint", "Line/1st", "Ä", "Line.Speed-Setpoint"]
    assert tag_names(paths) == [
        "line_speed_setpoint",
        "line_speed_setpoint_2",
        "line_1st",
        "tag",
        "line_speed_setpoint_3",
    ]


@pytest.mark.parametrize(
    ("payload", "fields", "wanted"),
    [
        ({"a": {"b": 5}}, {"field": "a.b", "value": 5}, True),
        ({"a": {"b": 5}}, {"field": "a.b", "op": ">", "value": 5}, False),
        ({"a": {"b": 5}}, {"field": "a.c", "value": 5}, False),
        ({"a": {"b": 5}}, {"field": "a.b.c", "value": 5}, False),
        ({"a": {"b": 5}}, {"field": "a", "value": 5}, False),
        ("ON", {"value": "ON"}, True),
        ("ON", {"value": 1}, False),
        ([1], {"value": 1}, False),
        (None, {}, True),
    ],
)
def test_which_message_is_waited_for(payload: Any, fields: dict[str, Any], wanted: bool) -> None:
    """By a part of its payload; what cannot be compared is not it."""
    condition = MessageCondition.model_validate({"broker": "b", "topic": "t", **fields})
    message = Message("t", payload, 1, False, datetime.now(UTC))
    assert is_wanted(message, condition) is wanted
    assert not is_wanted(replace(message, retained=True), condition)
    kept = condition.model_copy(update={"retained": True})
    assert is_wanted(replace(message, retained=True), kept) is wanted
