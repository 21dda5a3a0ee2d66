from __future__ import annotations

import pytest

from smartops.errors import BadInput
from smartops.plant import Line
from smartops.plant.faults import Faults


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
