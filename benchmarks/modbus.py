"""1,000 scattered tags of mixed types: requests and time, beside a raw socket and one by one.

The raw socket sends the same requests, over one blocking connection without any framework, and
takes the same values out of the answers with ``struct``: numbers with their scale, words in either
order, bits, texts. It checks nothing but the length, knows no quality, unit or time, and leaves
32-bit numbers as they are (64.08999633789062, which we read as 64.09).
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import statistics
import struct
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from benchmarks import modbus_server
from smartops.drivers import modbus
from smartops.drivers.coalesce import Block, plan_reads
from smartops.drivers.registers import FORMATS
from smartops.drivers.tags import Tag
from smartops.settings import get_settings

TAGS, ROUNDS, ROUNDS_ONE_BY_ONE = 1000, 15, 3
DELAYS_S = {"at_once": 0.0, "after_1_ms": 0.001}
"""How long the server takes for an answer: not at all, and as a device does that is quick."""
KINDS: tuple[dict[str, Any], ...] = (
    {"kind": "u16"},
    {"kind": "i16", "scale": 0.1, "offset": -40.0},
    {"kind": "u16", "not_available": (65535,)},
    {"kind": "u32"},
    {"kind": "i32", "order": "CDAB"},
    {"kind": "f32"},
    {"kind": "f32", "order": "CDAB"},
    {"kind": "f64"},
    {"kind": "bool", "bit": 3},
    {"kind": "string", "length": 4},
)
Reader = Callable[[bytes], Any]


def run(home: str) -> dict[str, Any]:
    """Read 1,000 tags with gaps of 0 to 8; return requests, seconds, and ratios to the raw socket.

    ``first`` is the first read of a driver, which still has to plan.
    """
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    tags, registers = _tags()
    blocks = plan_reads(tags)
    found: dict[str, Any] = {
        "requests": len(blocks),
        "minimum_requests": _minimum(tags),
        "n": ROUNDS,
        "samples": {},
    }
    for name, delay_s in DELAYS_S.items():
        with modbus_server.running(registers, delay_s) as port:
            samples = asyncio.run(_measure(port, tags, blocks))
        found["samples"][name] = samples
        medians = {what: statistics.median(times) for what, times in samples.items()}
        ratios = {
            f"{what}_to_raw": medians[what] / medians["raw"] for what in ("smartops", "first")
        }
        found[name] = {f"{what}_s": median for what, median in medians.items()} | ratios
    return found


def _tags() -> tuple[list[Tag], bytes]:
    """Return the tags, and registers in which each of them has a value."""
    chance = random.Random(1)
    words = [0] * modbus_server.REGISTERS
    tags, address = [], 0
    for number in range(TAGS):
        tag = Tag(name=f"t{number}", address=address, **chance.choice(KINDS))
        words[address : address + tag.words] = tag.encode(_value(tag, chance))
        tags.append(tag)
        address += tag.words + chance.randrange(9)
    return tags, struct.pack(f">{len(words)}H", *words)


def _value(tag: Tag, chance: random.Random) -> Any:
    if tag.kind == "string":
        return f"K{chance.randrange(1000)}"
    if tag.kind == "bool":
        return chance.random() < 0.5
    if tag.kind in {"f32", "f64"}:
        return round(chance.uniform(-500, 500), 3)
    return chance.randrange(1000)


def _minimum(tags: list[Tag], max_gap: int = 8, limit: int = 125) -> int:
    """Count by another way: from the left, each request as far as it may go."""
    places = [(tag.address, tag.address + tag.words) for tag in tags]
    count, index = 0, 0
    while index < len(places):
        start, end = places[index]
        index += 1
        while (
            index < len(places)
            and places[index][0] - end <= max_gap
            and places[index][1] - start <= limit
        ):
            end = places[index][1]
            index += 1
        count += 1
    return count


async def _measure(port: int, tags: list[Tag], blocks: list[Block]) -> dict[str, list[float]]:
    """Read in turns, in all ways; return the seconds that each took."""
    connection = modbus.Connection("b", "127.0.0.1", port, 1, timedelta(seconds=3), tuple(tags))
    names = [tag.name for tag in tags]
    times: dict[str, list[float]] = {"smartops": [], "raw": [], "first": [], "one_by_one": []}
    peer = RawSocket(port, blocks)
    async with modbus.open_device(connection) as device:
        await device.read(names)
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            readings = await device.read(names)
            times["smartops"].append(time.perf_counter() - begun)
            begun = time.perf_counter()
            values = peer.read()
            times["raw"].append(time.perf_counter() - begun)
            _compare(tags, {reading.tag: reading.value for reading in readings}, values)
        for _ in range(ROUNDS_ONE_BY_ONE):
            begun = time.perf_counter()
            for name in names:
                await device.read([name])
            times["one_by_one"].append(time.perf_counter() - begun)
    peer.close()
    for _ in range(ROUNDS):
        async with modbus.open_device(connection) as device:
            begun = time.perf_counter()
            await device.read(names)
            times["first"].append(time.perf_counter() - begun)
    return times


def _compare(tags: list[Tag], ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Raise AssertionError unless both have read the same values."""
    for tag in tags:
        mine, other = ours[tag.name], theirs[tag.name]
        if tag.kind == "f32":
            mine, other = struct.pack(">f", mine), struct.pack(">f", other)
        if tag.scaled:
            mine, other = round(mine, 6), round(other, 6)
        assert mine == other, (tag, mine, other)  # noqa: S101


class RawSocket:
    """The peer: the same requests and values, with all prepared that can be."""

    def __init__(self, port: int, blocks: list[Block]) -> None:
        self._wire = socket.create_connection(("127.0.0.1", port))
        self._wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._blocks = [
            (
                struct.pack(">HHHBBHH", number, 0, 6, 1, 3, block.address, block.count),
                9 + 2 * block.count,
                [
                    (tag.name, _reader(tag, 9 + 2 * (tag.address - block.address)))
                    for tag in block.tags
                ],
            )
            for number, block in enumerate(blocks)
        ]

    def read(self) -> dict[str, Any]:
        """Return the value of each tag."""
        values = {}
        for request, size, readers in self._blocks:
            self._wire.sendall(request)
            answer = self._wire.recv(size, socket.MSG_WAITALL)
            assert len(answer) == size  # noqa: S101
            for name, read in readers:
                values[name] = read(answer)
        return values

    def close(self) -> None:
        """Hang up."""
        self._wire.close()


def _reader(tag: Tag, at: int) -> Reader:
    """Return what takes a tag's value out of an answer."""
    if tag.kind == "string":
        return lambda answer: answer[at : at + 2 * tag.length].decode().rstrip("\0 ")
    unpack = struct.Struct(f">{FORMATS[tag.kind]}").unpack_from
    if tag.kind == "bool":
        mask = 1 << (tag.bit or 0)
        return lambda answer: unpack(answer, at)[0] & mask != 0
    if tag.order == "CDAB":
        return lambda answer: unpack(answer[at + 2 : at + 4] + answer[at : at + 2])[0]
    if tag.scaled:
        scale, offset = tag.scale, tag.offset
        return lambda answer: unpack(answer, at)[0] * scale + offset
    return lambda answer: unpack(answer, at)[0]
