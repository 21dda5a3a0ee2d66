"""A device at a serial line for tests: it answers two questions, and misbehaves as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from smartops.drivers.framing import Framing

ANSWERS = {b"W?": b"W1234", b"T?": b"W5678"}
NOISE = b"\xa5~#"
LATE_S = 1.0


@dataclass
class Device:
    """It has the fault at the question ``W?``, and answers ``T?`` as it should."""

    framing: Framing
    fault: str
    send: Callable[[bytes], None]
    hang_up: Callable[[], None]
    asked: list[bytes] = field(default_factory=list)
    _buffer: bytes = b""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def take(self, data: bytes) -> None:
        """Take what has come; answer each whole question in it."""
        self._buffer += data
        for question, found in ANSWERS.items():
            frame = self.framing.wrapped(question)
            if self._buffer.startswith(frame):
                self._buffer = self._buffer[len(frame) :]
                self.asked.append(question)
                answer = self.framing.wrapped(found)
                if question == b"W?":
                    self._answer(answer)
                else:
                    self._in_turn(answer)

    def _in_turn(self, frame: bytes) -> None:
        """Send a frame behind what is still to be sent."""
        if not self._tasks:
            self.send(frame)
            return
        [busy] = self._tasks
        busy.add_done_callback(lambda _: self.send(frame))

    def say_late(self) -> None:
        """Send the answer that was waited for, when nobody waits for it any more."""
        self.send(self.framing.wrapped(ANSWERS[b"W?"]))

    def _answer(self, frame: bytes) -> None:
        other = self.framing.wrapped(b"W9999")
        match self.fault:
            case "no-answer":
                pass
            case "late":
                self._soon([frame], LATE_S)
            case "half":
                self.send(frame[: len(frame) // 2])
            case "another's":
                self.send(self.framing.wrapped(b"X5555"))
            case "noise-before":
                self.send(NOISE + frame)
            case "noise":
                self.send(NOISE)
            case "altered":
                self.send(frame.replace(b"2", b"3"))
            case "two":
                self.send(frame + other)
            case "one and a half":
                self.send(frame + other[:3])
                self._soon([other[3:]], 0.2)
            case "slow":
                self._soon([bytes([byte]) for byte in frame], 0.01)
            case "unplugged":
                self.hang_up()
            case _:
                self.send(frame)

    def _soon(self, parts: list[bytes], pause_s: float) -> None:
        async def send() -> None:
            for part in parts:
                await asyncio.sleep(pause_s)
                self.send(part)

        task = asyncio.create_task(send())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def on_pty(framing: Framing, fault: str) -> AsyncIterator[tuple[Device, str]]:
    """Give a device at a pseudo-terminal, and the terminal's path."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    loop = asyncio.get_running_loop()
    open_ends = {ours}

    def hang_up() -> None:
        while open_ends:
            loop.remove_reader(ours)  # only once: another's end may have its number by then
            os.close(open_ends.pop())

    def ready() -> None:
        device.take(os.read(ours, 1000))

    device = Device(framing, fault, lambda data: _write(ours, data), hang_up)
    loop.add_reader(ours, ready)
    try:
        yield device, os.ttyname(theirs)
    finally:
        await asyncio.gather(*device._tasks)
        hang_up()
        os.close(theirs)  # not before: its number would be another's


def _write(end: int, data: bytes) -> None:
    assert os.write(end, data) == len(data)


@asynccontextmanager
async def on_socket(framing: Framing) -> AsyncIterator[tuple[list[bytes], int]]:
    """Give what a device was asked that is at a port of the loopback interface, and the port."""
    asked: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        device = Device(framing, "none", writer.write, writer.close, asked)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                device.take(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield asked, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)
        await server.wait_closed()
