"""A serial line behind a converter that speaks RFC 2217: its port is set from here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import termios
import threading
import tty
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import serial
from serial.rfc2217 import PortManager

from smartops import errors
from smartops.drivers import serial_line
from smartops.drivers.framing import Framing
from smartops.drivers.serial_line import Connection

pytestmark = [
    pytest.mark.usefixtures("home"),
    pytest.mark.filterwarnings(r"ignore:set(Daemon|Name)\(:DeprecationWarning"),  # the library's
]


class Port(serial.Serial):
    """A port without modem lines, which a pty does not have."""

    cts = dsr = ri = cd = property(lambda _self: False)

    def _update_rts_state(self) -> None:
        pass

    def _update_dtr_state(self) -> None:
        pass


class Converter:
    """A converter with one port, at which a device repeats in capitals what it is told."""

    def __init__(self) -> None:
        self._ours, theirs = os.openpty()
        tty.setraw(theirs)
        self.port = Port(os.ttyname(theirs), timeout=0.02)
        os.close(theirs)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"rfc2217://127.0.0.1:{self._server.getsockname()[1]}?ign_set_control"
        self._stop = threading.Event()
        self.mute = False
        self._threads = [threading.Thread(target=work) for work in (self._serve, self._device)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._server.close()
        self.port.close()
        os.close(self._ours)

    def _device(self) -> None:
        os.set_blocking(self._ours, False)
        while not self._stop.wait(0.01):
            with contextlib.suppress(BlockingIOError):
                heard = os.read(self._ours, 1000)
                if not self.mute:
                    os.write(self._ours, heard.upper())

    def _serve(self) -> None:
        self._server.settimeout(0.05)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                wire, _ = self._server.accept()
                with wire:
                    self._pass_on(wire)

    def _pass_on(self, wire: socket.socket) -> None:
        port: Any = self.port
        writer: Any = _Writer(wire)
        manager = PortManager(port, writer)
        wire.settimeout(0.01)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                data = wire.recv(1000)
                if not data:
                    return
                self.port.write(b"".join(manager.filter(data)))
            if found := self.port.read(self.port.in_waiting):
                wire.sendall(b"".join(manager.escape(found)))


class _Writer:
    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire

    def write(self, data: bytes) -> None:
        self._wire.sendall(data)


@pytest.fixture
def converter() -> Iterator[Converter]:
    found = Converter()
    yield found
    found.close()


def to(converter: Converter, **options: Any) -> Connection:
    return Connection(
        "scale",
        converter.url,
        timeout=timedelta(seconds=2),
        late=timedelta(),
        framing=Framing("line"),
        **options,
    )


async def test_question_and_answer(converter: Converter) -> None:
    """Bytes that Telnet takes for commands come through as they are; the port is set as asked."""
    connection = to(converter, baudrate=19_200, stopbits=2)
    async with serial_line.open_line(connection) as line:
        assert await line.ask(b"weigh") == b"WEIGH"
        assert await line.ask(b"\xff\xf4a") == b"\xff\xf4A"
    settings = termios.tcgetattr(converter.port.fileno())
    assert settings[4] == termios.B19200
    assert settings[2] & termios.CSTOPB
    async with serial_line.open_line(to(converter)) as line:
        assert await line.ask(b"again") == b"AGAIN"


async def test_a_device_behind_it_that_is_silent(converter: Converter) -> None:
    """The converter answers, the device does not: no whole answer."""
    converter.mute = True
    async with serial_line.open_line(to(converter)) as line:
        with pytest.raises(errors.DeviceTimeout):
            await line.ask(b"weigh")


async def test_somebody_who_does_not_speak_it() -> None:
    """Whoever only accepts connections is no converter."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"rfc2217://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(errors.DeviceUnreachable):
            async with asyncio.timeout(30), serial_line.open_line(Connection("scale", url)):
                pass
