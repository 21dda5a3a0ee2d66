"""A Modbus device on a pseudo-terminal that notices when two talk at once.

It answers after a moment, sometimes too late and sometimes not at all; it counts requests that come
while an answer is still due, and remembers what was written how often.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import struct
import threading
import time
import tty
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import fastcrc

TIMEOUT_S, LATE_S = 0.15, 0.6
"""What the drivers are told: how long an answer takes at the most, and how late it may come."""
ANSWER_S = 0.002
LATEST_S = 0.25
"""How long after the time limit the last of the late answers come: well before LATE_S is over."""
_FRAME = 8
"""Bytes of each request that is made here: functions 3, 4 and 6."""


def held_at(address: int) -> int:
    """Return what an input register holds: each of them something else."""
    return address ^ 0x5A5A


@dataclass
class Bus:
    """Unit 1. What it has seen may be read when it has ended."""

    faults: float
    """The share of requests that is answered late, and the share that is not."""
    path: str = ""
    requests: int = 0
    late: int = 0
    unanswered: int = 0
    overlapping: int = 0
    """Requests that came while another's answer was due, or that came mixed up."""
    too_early: int = 0
    """Requests that came when a late answer might still have, but did not."""
    written: Counter[tuple[int, int]] = field(default_factory=Counter)
    """How often a value was written to an address."""
    _holding: dict[int, int] = field(default_factory=dict)
    _chance: random.Random = field(default_factory=lambda: random.Random(1))
    _answers: list[tuple[float, bytes]] = field(default_factory=list)
    """When an answer is due; an empty one stands for the time in which it may be waited for."""

    def serve(self, line: int, stop: threading.Event) -> None:
        """Answer until it is told to stop."""
        buffer = b""
        while not stop.is_set():
            due = min((at for at, _ in self._answers), default=time.monotonic() + 0.05)
            wait_s = max(due - time.monotonic(), 0.0)
            if select.select([line], [], [], wait_s)[0]:
                buffer = self._take(buffer + os.read(line, 1000))
            now = time.monotonic()
            for at, answer in [entry for entry in self._answers if entry[0] <= now]:
                self._answers.remove((at, answer))
                os.write(line, answer)

    def _take(self, buffer: bytes) -> bytes:
        """Take a request in; return what is left of it."""
        self.overlapping += any(answer for _, answer in self._answers) or len(buffer) > _FRAME
        self.too_early += any(not answer for _, answer in self._answers)
        if len(buffer) < _FRAME:
            return buffer
        body, check = buffer[: _FRAME - 2], buffer[_FRAME - 2 : _FRAME]
        if fastcrc.crc16.modbus(body).to_bytes(2, "little") != check:
            self.overlapping += 1
            return b""
        self.requests += 1
        answer = self._answer(*struct.unpack(">BBHH", body))
        frame = answer + fastcrc.crc16.modbus(answer).to_bytes(2, "little")
        now, fate = time.monotonic(), self._chance.random()
        if fate < self.faults:
            self.late += 1
            delay = TIMEOUT_S + self._chance.uniform(0.02, LATEST_S)
            self._answers.append((now + delay, frame))
        elif fate < 2 * self.faults:
            self.unanswered += 1
            self._answers.append((now + TIMEOUT_S + LATEST_S, b""))
        else:
            self._answers.append((now + ANSWER_S, frame))
        return b""

    def _answer(self, unit: int, function: int, address: int, number: int) -> bytes:
        if function == 6:
            self._holding[address] = number
            self.written[address, number] += 1
            return struct.pack(">BBHH", unit, function, address, number)
        places = range(address, address + number)
        held = [self._holding.get(p, 0) if function == 3 else held_at(p) for p in places]
        return struct.pack(f">BBB{number}H", unit, function, 2 * number, *held)


@contextlib.contextmanager
def running(faults: float) -> Iterator[Bus]:
    """Give a device at a pseudo-terminal of its own."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    bus = Bus(faults, os.ttyname(theirs))
    stop = threading.Event()
    thread = threading.Thread(target=bus.serve, args=(ours, stop))
    thread.start()
    try:
        yield bus
    finally:
        stop.set()
        thread.join()
        os.close(ours)
        os.close(theirs)
