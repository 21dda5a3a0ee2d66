"""A Modbus device for tests, written without the library that the driver uses: it can misbehave.

It speaks TCP or RTU framing, on a socket or on a pseudo-terminal, and remembers what it was asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import tty
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import fastcrc

LATE_S = 0.5


@dataclass
class Slave:
    """Unit 1, holding registers 0-199: register n holds 1000 + n until it is written."""

    framing: str = "tcp"
    fault: str = ""
    registers: list[int] = field(default_factory=lambda: [1000 + n for n in range(200)])
    requests: list[tuple[float, int, int]] = field(default_factory=list)
    """When (seconds of the loop), which function, which address."""
    refused: frozenset[int] = frozenset()
    """Addresses that are answered with exception 2."""
    most: int = 125
    """How many registers one request may have; with more it is answered with exception 3."""
    counts: list[int] = field(default_factory=list)
    """How many registers each request had."""
    dead: frozenset[int] | None = None
    """The units that the fault befalls; None: all."""
    port: int = 0
    path: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    @property
    def writes(self) -> list[tuple[float, int, int]]:
        return [request for request in self.requests if request[1] in {5, 6, 15, 16, 22}]

    def _do(self, unit: int, pdu: bytes) -> bytes:
        """Carry a request out; return the answer."""
        function, address, count = struct.unpack(">BHH", pdu[:5])
        self.requests.append((asyncio.get_running_loop().time(), function, address))
        number = self.fault.removeprefix("exception-")
        if number.isdecimal() and (self.dead is None or unit in self.dead):
            return bytes([function | 0x80, int(number)])
        words = count if function in {3, 4, 16} else 1
        self.counts.append(words)
        if words > self.most:
            return bytes([function | 0x80, 3])
        if self.refused & set(range(address, address + words)) or address + words > 200:
            return bytes([function | 0x80, 2])
        match function:
            case 3 | 4:
                values = self.registers[address : address + count]
                if self.fault == "short":
                    values = values[:-1]
                return struct.pack(f">BB{len(values)}H", function, 2 * len(values), *values)
            case 6:
                self.registers[address] = count
            case 16:
                self.registers[address : address + count] = struct.unpack(f">{count}H", pdu[6:])
            case 22:
                held, (mask,) = self.registers[address], struct.unpack(">H", pdu[5:7])
                self.registers[address] = (held & count) | (mask & ~count)
                return pdu
            case _:
                return bytes([function | 0x80, 1])
        return pdu[:5]

    def answer(self, unit: int, pdu: bytes, number: int, send: Callable[[bytes], None]) -> None:
        """Answer a request as the fault says."""
        answer = self._do(unit, pdu)
        fault = self.fault if self.dead is None or unit in self.dead else ""
        if fault == "flapping" and len(self.requests) % 2:
            fault = "no-answer"
        if fault == "wrong-unit":
            unit += 1
        if fault == "wrong-exception":
            answer = bytes([0x84 if pdu[0] != 4 else 0x83, 2])
        if fault == "wrong-function":
            answer = struct.pack(">BBH", 4, 2, 7) if pdu[0] != 4 else struct.pack(">BBH", 3, 2, 7)
        if self.framing == "tcp":
            frame = struct.pack(">HHHB", number, 0, len(answer) + 1, unit) + answer
        else:
            body = bytes([unit]) + answer
            frame = body + fastcrc.crc16.modbus(body).to_bytes(2, "little")
        if fault == "garbage":
            frame = bytes(byte ^ 0x5A for byte in frame)
        delay = {"late": LATE_S, "slow": 0.05}.get(fault, 0.0)
        if fault == "reset":
            send(b"")
        elif fault != "no-answer":
            task = asyncio.create_task(self._later(delay, frame, send))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _later(delay: float, frame: bytes, send: Callable[[bytes], None]) -> None:
        await asyncio.sleep(delay)
        send(frame)

    def feed(self, buffer: bytearray, send: Callable[[bytes], None]) -> None:
        """Take what has come, and answer each whole request in it."""
        while (length := self._length(buffer)) and len(buffer) >= length:
            frame = bytes(buffer[:length])
            del buffer[:length]
            if self.framing == "tcp":
                (number,) = struct.unpack(">H", frame[:2])
                self.answer(frame[6], frame[7:], number, send)
            else:
                assert fastcrc.crc16.modbus(frame[:-2]).to_bytes(2, "little") == frame[-2:]
                self.answer(frame[0], frame[1:-2], 0, send)

    def _length(self, buffer: bytearray) -> int:
        if self.framing == "tcp":
            return 6 + int.from_bytes(buffer[4:6], "big") if len(buffer) >= 8 else 0
        if len(buffer) < 8:
            return 0
        return {16: 9 + buffer[6], 15: 9 + buffer[6], 22: 10}.get(buffer[1], 8)

    async def on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        buffer = bytearray()

        def send(frame: bytes) -> None:
            if not frame:
                writer.transport.abort()
            elif not writer.is_closing():
                writer.write(frame)

        self._writers.append(writer)
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(1000):
                buffer += chunk
                self.feed(buffer, send)
        writer.close()


@asynccontextmanager
async def on_socket(framing: str) -> AsyncIterator[Slave]:
    """Give a device at a port of the loopback interface."""
    slave = Slave(framing)
    server = await asyncio.start_server(slave.on_connection, "127.0.0.1", 0)
    slave.port = server.sockets[0].getsockname()[1]
    try:
        yield slave
    finally:
        server.close()
        await asyncio.gather(*slave._tasks)
        for writer in slave._writers:
            writer.close()
        closing = (writer.wait_closed() for writer in slave._writers)
        await asyncio.gather(*closing, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def on_pty() -> AsyncIterator[Slave]:
    """Give a device at a pseudo-terminal."""
    slave = Slave("rtu")
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    slave.path = os.ttyname(theirs)
    buffer = bytearray()
    loop = asyncio.get_running_loop()

    def send(frame: bytes) -> None:
        os.write(ours, frame)

    def ready() -> None:
        buffer.extend(os.read(ours, 1000))
        slave.feed(buffer, send)

    loop.add_reader(ours, ready)
    try:
        yield slave
    finally:
        await asyncio.gather(*slave._tasks)
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)
