"""How many requests a service may get, counted for all processes of this machine together."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import struct
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from smartops.drivers.wire_notes import note_path
from smartops.durations import parse_duration

_MOST = 10_000
_RATE = re.compile(r"(\d{1,6})\s*/\s*(\d*(?:ms|s|m|h|d))")
_HEAD = struct.Struct("<QQ")
_TIME = struct.Struct("<d")


@dataclass(frozen=True)
class Rate:
    """At most ``count`` requests within any span of time of this length."""

    count: int
    per: timedelta


def parse_rate(text: str) -> Rate:
    """Return the rate that ``10/s``, ``100/m`` or ``5/10s`` says. Raises ValueError."""
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no rate; write 10/s, 100/m or 5/10s")
    count = int(match[1])
    per = parse_duration(match[2] if match[2][0].isdigit() else f"1{match[2]}")
    if not 1 <= count <= _MOST or not per:
        raise ValueError(f"a rate allows 1 to {_MOST:,} requests in a time that is not 0")
    return Rate(count, per)


async def wait_for_turn(resource: str, rate: Rate) -> None:
    """Wait until one more request may go out to a service, and count it."""
    path = note_path(resource, "rate")
    path.parent.mkdir(parents=True, exist_ok=True)
    wait_s = _take(path, rate)
    while wait_s > 0:  # another process may have been quicker
        await asyncio.sleep(wait_s)
        wait_s = _take(path, rate)


def _take(path: Path, rate: Rate) -> float:
    """Count a request, unless it is too early: return how many seconds it is too early.

    The file is a ring of the times of the last ``count`` requests: the oldest says when the next
    one may go out.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)  # nobody holds it for longer than this takes
        head = os.pread(file, _HEAD.size, 0)
        count, made = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
        if count != rate.count:
            os.ftruncate(file, 0)  # another limit than before: it is counted from now on
            made = 0
        place = _HEAD.size + made % rate.count * _TIME.size
        found = os.pread(file, _TIME.size, place)
        oldest = _TIME.unpack(found)[0] if len(found) == _TIME.size else 0.0
        now = time.time()
        wait_s = float(oldest + rate.per.total_seconds() - now)
        if wait_s > 0 and oldest <= now:  # later than now: the clock was set back
            return wait_s
        os.pwrite(file, _TIME.pack(now), place)
        os.pwrite(file, _HEAD.pack(rate.count, made + 1), 0)
        return 0.0
    finally:
        os.close(file)
