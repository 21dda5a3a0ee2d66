from __future__ import annotations

import json
from typing import Any

import pytest

from smartops.drivers.framing import Framing
from smartops.errors import BadInput
from smartops.plant import Line
from smartops.plant.faults import Faults, PlantLog
from smartops.plant.mqtt_line import Commands
from smartops.plant.serial_devices import Scale, code_frame


def test_the_same_seed_gives_the_same_course() -> None:
    """However the time is cut into pieces."""
    one, two, other = Line(5), Line(5), Line(6)
    one.advance(120)
    for _ in range(1200):
        two.advance(0.1)
    other.advance(120)
    assert one.snapshot() == two.snapshot()
    assert one.snapshot() != other.snapshot()


def test_the_line_reacts_to_what_is_written() -> None:
    """Speed follows its setpoint, bottles follow the speed, the alarm follows a standstill."""
    line = Line(1)
    line.advance(10)
    made = line.snapshot().good
    line.speed_setpoint = 0
    line.advance(30)
    stopped = line.snapshot()
    assert stopped.speed == 0
    assert stopped.alarms & 0b100
    line.advance(30)
    assert line.snapshot().good == stopped.good
    assert stopped.good > made
    line.reset_counters()
    assert line.snapshot().good == 0


def test_the_pump_keeps_the_tank_filled() -> None:
    """In its automatic mode the level stays between its limits for an hour."""
    line = Line(2)
    levels = []
    for _ in range(3600):
        line.advance(1)
        levels.append(line.snapshot().tank_level)
    assert min(levels) > 15
    assert max(levels) < 95


def test_an_unknown_fault_is_refused() -> None:
    """With the known ones in the message."""
    with pytest.raises(BadInput, match="plc-offline"):
        Faults(["plc-on-fire"])


def test_a_crate_is_lighter_when_the_tank_runs_empty() -> None:
    """Its weight is that of its bottles; each crate has its own, and keeps it."""
    line = Line(3)
    full = line.crate_kg()
    assert full == line.crate_kg()
    assert 12.2 < full < 12.4
    line.set_pump(False)
    line.speed_setpoint = 300
    line.advance(900)
    assert line.snapshot().tank_level == 0
    assert 11.1 < line.crate_kg() < 11.4
    line.speed_setpoint = 0
    line.advance(60)
    assert line.crate_kg() == 0


def test_the_scale_waits_until_it_is_at_rest() -> None:
    """While the line changes its speed it gives no weight that counts."""
    line = Line(3)
    scale = Scale(line, Faults(), PlantLog())
    line.speed_setpoint = 200
    line.advance(0.5)
    assert [scale.answer(command) for command in ("S", "Z", "T")] == ["S I", "Z I", "T I"]
    assert scale.answer("SI").startswith("S D")
    line.advance(10)
    assert scale.answer("S").startswith("S S      12.")


def test_the_codes_of_bottles() -> None:
    """A frame that is packed by hand is one of our framing, unless it is garbled."""
    framing = Framing("start-stop", checksum="xor", checksum_as_hex=True)
    frame = code_frame("B0042", 1_000_017)
    assert frame == framing.wrapped(b"B0042000017")
    body, _ = framing.cut(code_frame("B0042", 17, garbled=True), silent=False) or (b"", 0)
    with pytest.raises(ValueError, match="wrong checksum"):
        framing.checked(body)


@pytest.mark.parametrize(
    "order",
    [
        "set-speed",
        ["set-speed"],
        {},
        {"command": "set-speed"},
        {"command": "set-speed", "speed": 301},
        {"command": "set-speed", "speed": -1},
        {"command": "set-speed", "speed": True},
        {"command": "set-speed", "speed": 99.5},
        {"command": "sample", "kg": float("nan")},
        {"command": "sample", "kg": "12"},
        {"command": "stop"},
    ],
)
def test_what_the_line_does_not_obey(order: Any) -> None:
    """Is refused with a reason, and changes nothing."""
    line = Line(3)
    before = line.snapshot()
    answer = Commands(line).obey(json.dumps(order).encode())
    assert answer["done"] is False
    assert answer["reason"]
    assert line.snapshot() == before
    assert Commands(line).obey(b"\xff")["done"] is False
