"""Two processes on one serial line: never two frames at once, never another's answer."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import fastcrc
import pytest

from benchmarks import contended_bus
from benchmarks.contended import contend
from benchmarks.contended_bus import Bus
from tests.conftest import wait_for

pytestmark = pytest.mark.usefixtures("home")


def request(address: int) -> bytes:
    body = bytes([1, 4, 0, address, 0, 1])
    return body + fastcrc.crc16.modbus(body).to_bytes(2, "little")


def _has_come(bus: Bus, number: int) -> bool:
    return bus.requests == number


def test_the_bus_notices_who_talks_at_once() -> None:
    """A second request before the answer, and one while a late answer may still come."""
    with contended_bus.running(0.0) as bus:
        line = os.open(bus.path, os.O_RDWR | os.O_NOCTTY)
        os.write(line, request(1) + request(2))
        wait_for(lambda: bus.overlapping, "the overlap")
        os.close(line)
    with contended_bus.running(0.5) as bus:  # no request is answered in time
        line = os.open(bus.path, os.O_RDWR | os.O_NOCTTY)
        for number in range(1, 30):
            os.write(line, request(number))
            wait_for(partial(_has_come, bus, number), "the request")
        os.close(line)
    assert bus.late + bus.unanswered == 29
    assert min(bus.overlapping, bus.too_early) > 0


def test_two_processes_take_turns(home: Path) -> None:
    """Reads and writes with late and missing answers, some of them broken off."""
    found = contend(str(home), operations=150, faults=0.006)
    assert found["operations"] == 150
    assert min(found["read"], found["confirmed"]) > 20
    assert min(found["answered_late"], found["unanswered"]) > 0
    assert found["overlapping_frames"] == 0
    assert found["asked_too_early"] == 0
    assert found["stale_answers_accepted"] == 0
    assert found["written_twice"] == 0
    assert found["confirmed_but_not_written"] == 0
