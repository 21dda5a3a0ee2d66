"""A wire between a client and a real server, for tests: it fails as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

FAULTS = (
    "request-lost",
    "request-reset",
    "answer-lost",
    "first-answer-lost",
    "second-answer-lost",
    "half-open",
    "stuck",
    "late",
    "short",
    "cut",
    "reset",
    "garbage",
    "twice",
    "wrong-number",
    "slow",
    "too-slow",
    "flapping",
)
"""What a wire can do. It begins with what comes next, and goes on until it is told otherwise."""


@dataclass
class Wire:
    """It listens at ``port`` and passes everything on to ``target``, as the fault says."""

    target: int
    late_s: float
    """How late a late answer is, and how long one takes that is too slow."""
    renumber: Callable[[bytes], bytes] = bytes
    """Gives an answer the number of another question."""
    port: int = 0
    connections: int = 0
    answers: int = 0
    """How many have come since the fault began, lost ones too."""
    _fault: str = ""
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def fault(self) -> str:
        return self._fault

    @fault.setter
    def fault(self, fault: str) -> None:
        assert fault in {"", *FAULTS}
        self._fault, self.answers = fault, 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.target)
        both = {writer, up_writer}
        self._open |= both

        async def ask(data: bytes) -> None:
            if self._fault == "request-reset":
                _reset(writer)
            elif self._fault == "stuck":
                await asyncio.Event().wait()  # nothing more is taken, until somebody hangs up
            elif self._fault not in {"request-lost", "half-open"}:
                up_writer.write(data)

        async def answer(data: bytes) -> None:
            self.answers += 1
            await self._answer(data, writer, number)

        def pump(source: asyncio.StreamReader, take: Callable[[bytes], object]) -> None:
            task = asyncio.create_task(_pump(source, take, both))  # type: ignore[arg-type]
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        pump(reader, ask)
        pump(up_reader, answer)

    async def _answer(self, data: bytes, writer: asyncio.StreamWriter, number: int) -> None:
        fault = self._fault
        if fault == "flapping":
            fault = "reset" if number % 2 else ""
        if fault in {"first-answer-lost", "second-answer-lost"}:
            lost = self.answers == (1 if fault == "first-answer-lost" else 2)
            fault = "answer-lost" if lost else ""
        match fault:
            case "answer-lost" | "half-open":
                return
            case "late":
                await asyncio.sleep(self.late_s)
            case "short":
                data = data[: len(data) // 2] if self.answers == 1 else b""
            case "cut":
                writer.write(data[: len(data) // 2])
                writer.close()
                return
            case "reset":
                _reset(writer)
                return
            case "garbage":
                data = bytes(byte ^ 0x5A for byte in data)
            case "twice":
                data += data
            case "wrong-number":
                data = self.renumber(data)
            case "slow" | "too-slow":
                await _drip(data, writer, self.late_s if fault == "too-slow" else 0.1)
                return
        if not writer.is_closing():
            writer.write(data)

    async def close(self) -> None:
        """Hang up on everybody."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._open:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for w in self._open), return_exceptions=True)


async def _drip(data: bytes, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Send the parts of an answer one after the other, the last of them after some time."""
    size = -(-len(data) // 10)
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    for part in parts:
        await asyncio.sleep(seconds / len(parts))
        if not writer.is_closing():
            writer.write(part)


def _reset(writer: asyncio.StreamWriter) -> None:
    wire: socket.socket = writer.get_extra_info("socket")
    if not writer.is_closing():
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _pump(
    source: asyncio.StreamReader,
    take: Callable[[bytes], asyncio.Future[None]],
    both: set[asyncio.StreamWriter],
) -> None:
    """Pass on what comes, until somebody hangs up."""
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            await take(data)
    for writer in both:
        writer.close()


@asynccontextmanager
async def wire_to(
    target: int, late_s: float, renumber: Callable[[bytes], bytes] = bytes
) -> AsyncIterator[Wire]:
    """Give a wire to a port of the loopback interface."""
    wire = Wire(target, late_s, renumber)
    server = await asyncio.start_server(wire._serve, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        await wire.close()
        await server.wait_closed()
