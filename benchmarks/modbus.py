"""1,000 scattered tags: requests and time, beside the same requests over a raw socket."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import statistics
import struct
import threading
import time
from datetime import timedelta
from typing import Any

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from smartops.drivers import modbus
from smartops.drivers.coalesce import Block, plan_reads
from smartops.drivers.tags import Tag
from smartops.settings import get_settings

TAGS, ROUNDS = 1000, 7


def run(home: str) -> dict[str, Any]:
    """Read 1,000 tags with gaps of 0 to 8; return requests, seconds, and the ratio to the floor."""
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    chance = random.Random(1)
    tags, address = [], 0
    for number in range(TAGS):
        tags.append(Tag(name=f"t{number}", address=address))
        address += 1 + chance.randrange(9)
    blocks = plan_reads(tags)
    ready, stop = threading.Event(), threading.Event()
    ports: list[int] = []
    server = threading.Thread(target=lambda: asyncio.run(_serve(address + 200, ports, ready, stop)))
    server.start()
    ready.wait()
    try:
        ours, raw = asyncio.run(_measure(ports[0], tags, blocks))
    finally:
        stop.set()
        server.join()
    return {
        "requests": len(blocks),
        "minimum_requests": _minimum(tags),
        "smartops_s": statistics.median(ours),
        "raw_socket_s": statistics.median(raw),
        "ratio_to_raw_socket": statistics.median(ours) / statistics.median(raw),
        "n": ROUNDS,
        "samples": {"smartops": ours, "raw_socket": raw},
    }


def _minimum(tags: list[Tag], max_gap: int = 8, limit: int = 125) -> int:
    """Count by another way: from the left, each request as far as it may go."""
    addresses = [tag.address for tag in tags]
    count, index = 0, 0
    while index < len(addresses):
        start = addresses[index]
        index += 1
        while (
            index < len(addresses)
            and addresses[index] - addresses[index - 1] - 1 <= max_gap
            and addresses[index] - start < limit
        ):
            index += 1
        count += 1
    return count


async def _serve(
    size: int, ports: list[int], ready: threading.Event, stop: threading.Event
) -> None:
    registers = SimData(0, count=size, values=7, datatype=DataType.REGISTERS)
    server = ModbusTcpServer(SimDevice(1, simdata=[registers]), address=("127.0.0.1", 0))
    await server.serve_forever(background=True)
    transport: Any = server.transport
    ports.append(transport.sockets[0].getsockname()[1])
    ready.set()
    while not stop.is_set():
        await asyncio.sleep(0.05)
    await server.shutdown()  # type: ignore[no-untyped-call]


async def _measure(
    port: int, tags: list[Tag], blocks: list[Block]
) -> tuple[list[float], list[float]]:
    connection = modbus.Connection("b", "127.0.0.1", port, 1, timedelta(seconds=3), tuple(tags))
    names = [tag.name for tag in tags]
    ours, raw = [], []
    async with modbus.open_device(connection) as device:
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            readings = await device.read(names)
            ours.append(time.perf_counter() - begun)
            assert len(readings) == TAGS  # noqa: S101
            raw.append(await asyncio.to_thread(_raw, port, blocks))
    return ours, raw


def _raw(port: int, blocks: list[Block]) -> float:
    with socket.create_connection(("127.0.0.1", port)) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begun = time.perf_counter()
        for number, block in enumerate(blocks):
            wire.sendall(struct.pack(">HHHBBHH", number, 0, 6, 1, 3, block.address, block.count))
            wanted = 9 + 2 * block.count
            while wanted > 0:
                wanted -= len(wire.recv(wanted))
        return time.perf_counter() - begun
