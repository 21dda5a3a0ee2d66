"""30 units on one bus, 5 of them dead: how long the others take, beside a bus with the 25 alone.

Each unit is read as a step does it: the lock of the wire, a connection, a request. The units answer
after 10 ms, as many real ones do; the dead ones never, and each wait for them is half a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import struct
import time
from datetime import timedelta
from typing import Any

from smartops.drivers import modbus, quarantine
from smartops.drivers.quarantine import Patience
from smartops.drivers.tags import Tag
from smartops.errors import TransientError
from smartops.settings import get_settings

UNITS, DEAD = 30, frozenset({3, 9, 14, 22, 27})
ANSWERS_AFTER_S, TIMEOUT = 0.01, timedelta(seconds=0.5)
UNDISTURBED, QUARANTINED, NEVER = 40, 120, 5
TAG = (Tag(name="level", address=5, kind="u16"),)


def run(home: str) -> dict[str, Any]:
    """Return seconds for a cycle over the live units, and what the dead ones make of it."""
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    return asyncio.run(_measure())


async def _measure() -> dict[str, Any]:
    server = await asyncio.start_server(_bus, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    live = [unit for unit in range(1, UNITS + 1) if unit not in DEAD]
    everybody = list(range(1, UNITS + 1))
    async with server:
        alone = [await _cycle(port, live, Patience()) for _ in range(UNDISTURBED)]
        entering = [await _cycle(port, everybody, Patience()) for _ in range(3)]
        left_alone = len(quarantine.quarantined())
        beside = [await _cycle(port, everybody, Patience()) for _ in range(QUARANTINED)]
        never = [await _cycle(port, everybody, Patience(after=0)) for _ in range(NEVER)]
    base = statistics.median(alone)
    return {
        "units": UNITS,
        "dead": len(DEAD),
        "left_alone": left_alone,
        "undisturbed_s": base,
        "beside_dead_s": statistics.median(beside),
        "beside_dead_mean_s": statistics.fmean(beside),
        "entering_s": statistics.fmean(entering),
        "without_quarantine_s": statistics.median(never),
        "ratio": statistics.median(beside) / base,
        "ratio_of_means": statistics.fmean(beside) / statistics.fmean(alone),
        "ratio_without_quarantine": statistics.median(never) / base,
        "n": QUARANTINED,
        "samples": {"undisturbed": alone, "beside_dead": beside, "without_quarantine": never},
    }


async def _cycle(port: int, units: list[int], patience: Patience) -> float:
    began = time.perf_counter()
    for unit in units:
        connection = modbus.Connection(
            f"unit-{unit}", "127.0.0.1", port, unit, TIMEOUT, TAG, patience=patience
        )
        with contextlib.suppress(TransientError):
            async with modbus.open_device(connection) as device:
                await device.read(["level"])
    return time.perf_counter() - began


async def _bus(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer every request for one register with 7, but for the dead units."""
    gone = (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError)
    with contextlib.suppress(*gone):
        while True:
            number, _protocol, _length, unit, function, _address, _count = struct.unpack(
                ">HHHBBHH", await reader.readexactly(12)
            )
            if unit not in DEAD:
                await asyncio.sleep(ANSWERS_AFTER_S)
                writer.write(struct.pack(">HHHBBBH", number, 0, 5, unit, function, 2, 7))
    writer.close()
