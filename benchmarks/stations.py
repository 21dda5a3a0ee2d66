"""Who the leak benchmark talks to, in a process of its own: only our own handles are counted.

The plant for Modbus and OPC UA, devices on serial lines, a broker, and three that misbehave: one is
silent, one resets the connection when it is asked, one does not let anybody in.
``python -m benchmarks.stations`` prints their addresses, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import contended_bus
from smartops.plant import Plant
from smartops.plant.mosquitto import Mosquitto, find_executable

_START_S = 30.0
_HANG_UP = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Stations:
    """Where they are; the broker's port is 0 where Mosquitto is not installed."""

    modbus: int
    opcua: str
    broker: int
    rtu: str
    scale: str
    """A serial device that answers each line with another."""
    deaf: str
    """A serial line at which nobody is."""
    silent: int
    resets: int
    full: int


@contextmanager
def running(home: str) -> Iterator[Stations]:
    """Give the stations; they keep their files in ``home``."""
    command = [sys.executable, "-m", "benchmarks.stations"]
    environment = {**os.environ, "SMARTOPS_HOME": home}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None  # noqa: S101 - for the type checker
        assert process.stdout is not None  # noqa: S101
        try:
            yield Stations(**json.loads(process.stdout.readline()))
        finally:
            process.stdin.close()


async def main() -> None:
    """Serve until standard input is closed."""
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # who has gone is no news here
    async with contextlib.AsyncExitStack() as stack:
        plant = await stack.enter_async_context(Plant(seed=1))
        await plant.opcua_is_ready()
        bus = stack.enter_context(contended_bus.running(0.0))
        stations = Stations(
            modbus=plant.addresses.modbus_port,
            opcua=plant.addresses.opcua_url,
            broker=stack.enter_context(_broker()),
            rtu=bus.path,
            scale=stack.enter_context(_scale()),
            deaf=stack.enter_context(_line())[1],
            silent=await _server(stack, _stay_silent),
            resets=await _server(stack, _reset),
            full=stack.enter_context(_full()),
        )
        print(json.dumps(asdict(stations)), flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _server(
    stack: contextlib.AsyncExitStack,
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> int:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    stack.callback(server.close)
    return int(server.sockets[0].getsockname()[1])


async def _stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(1000):
            pass
    writer.close()


async def _reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read(1000)
    wire: socket.socket = writer.get_extra_info("socket")
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _HANG_UP)
    writer.transport.abort()


@contextmanager
def _full() -> Iterator[int]:
    """Give a port at which connecting takes for ever: its queue is full, and nobody accepts."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as server,
        contextlib.ExitStack() as stack,
    ):
        address = server.getsockname()
        for _ in range(4):
            guest = stack.enter_context(socket.socket())
            guest.setblocking(False)
            guest.connect_ex(address)
        yield int(address[1])


@contextmanager
def _line() -> Iterator[tuple[int, str]]:
    """Give our end of a serial line, and the path of the other."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    try:
        yield ours, os.ttyname(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


@contextmanager
def _scale() -> Iterator[str]:
    loop = asyncio.get_running_loop()
    with _line() as (ours, path):

        def answer() -> None:
            for _ in range(os.read(ours, 1000).count(b"\n")):
                os.write(ours, b"S S 12.34 kg\r\n")

        loop.add_reader(ours, answer)
        try:
            yield path
        finally:
            loop.remove_reader(ours)


@contextmanager
def _broker() -> Iterator[int]:
    program = find_executable()
    if program is None:
        yield 0
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="smartops-bench-broker-") as folder:
        config = f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n"
        broker = Mosquitto(program, Path(folder), config)
        broker.start()
        try:
            _await_broker(port, broker)
            yield port
        finally:
            broker.stop()


def _await_broker(port: int, broker: Mosquitto) -> None:
    deadline = time.monotonic() + _START_S
    while broker.is_running() and time.monotonic() < deadline:
        if broker.listens_on(port):
            return
        time.sleep(0.02)
    raise RuntimeError(f"the broker does not start: {broker.last_words()}")


if __name__ == "__main__":
    asyncio.run(main())
