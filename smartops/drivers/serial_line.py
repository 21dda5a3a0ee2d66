"""Serial lines: send a frame, and return the one that answers it, whole and checked.

The library's timeouts never raise: it hands back what came so far, which is never taken for an
answer here. No exception of its leaves this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import termios
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import urlsplit

import serial

from smartops import errors, locks
from smartops.drivers.exchanges import exchange
from smartops.drivers.framing import Framing
from smartops.drivers.pacing import Pacing
from smartops.drivers.quarantine import PATIENT, Patience, Quarantine
from smartops.drivers.wire_notes import OpenQuestion, line_at
from smartops.rehearsal import check_host, check_port

Parity = Literal["N", "E", "O", "M", "S"]
_LOOK_S = 0.02
"""How long one look for more bytes takes: within that a cancelled step leaves the line."""
_MOST_BYTES = 65_536
_SILENCE_S = 0.05
_LOST = (serial.SerialException, OSError, termios.error)
"""What comes out of the library when a line is gone: the last of them it lets through."""


@dataclass(frozen=True)
class Connection:
    """A line, how it is set, and how its frames look."""

    name: str
    port: str
    """A device such as /dev/ttyUSB0, socket://host:port or rfc2217://host:port."""
    baudrate: int = 9600
    bytesize: Literal[5, 6, 7, 8] = 8
    parity: Parity = "N"
    stopbits: Literal[1, 2] = 1
    timeout: timedelta = timedelta(seconds=2)
    late: timedelta | None = None
    """How long an answer may come late; None: as long as the timeout."""
    silence: timedelta = timedelta(seconds=_SILENCE_S)
    """For frames that end with silence: how long."""
    framing: Framing = field(default_factory=Framing)
    patience: Patience = PATIENT
    """How soon the device is left alone when it does not answer."""

    @property
    def quarantine(self) -> Quarantine:
        """What is known of whether the device at the line answers."""
        return Quarantine(self.name, self.resource, f"device {self.name}", self.patience)

    @property
    def is_remote(self) -> bool:
        """Whether the port is at a converter in the network."""
        return "://" in self.port

    @property
    def resource(self) -> str:
        """What steps must not use at the same time."""
        if self.is_remote:
            parts = urlsplit(self.port)
            return f"serial://{parts.hostname}:{parts.port}"
        return line_at(self.port)


@asynccontextmanager
async def open_line(connection: Connection) -> AsyncIterator[SerialDriver]:
    """Open the line alone, and close it at the end, whatever happens.

    Raises DeviceUnreachable, DeviceQuarantined and LockTimeout.
    """
    if connection.is_remote:
        check_host(connection.name, urlsplit(connection.port).hostname or "")
    else:
        check_port(connection.name, connection.port)
    wire = Quarantine(connection.name, connection.resource, "", connection.patience)
    for place in (wire, connection.quarantine):
        place.check()  # before it waits for the line
    async with locks.exclusive(connection.resource):
        for place in (wire, connection.quarantine):
            place.claim()
        # A thread of its own: who listens for hours takes none that others wait for.
        with ThreadPoolExecutor(1, "serial") as thread:
            with wire.trial(connection.timeout):
                line = await _open(connection, thread)
            driver = SerialDriver(line, connection, thread)
            try:
                yield driver
            finally:
                try:
                    await driver.quiet()
                finally:
                    await _to_its_end(_in(thread, _close, line))


def _in(thread: Executor, work: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
    return asyncio.get_running_loop().run_in_executor(thread, work, *arguments)


async def _open(connection: Connection, thread: Executor) -> Any:
    opening = _in(thread, _opened, connection)
    try:
        return await _to_its_end(opening)
    except asyncio.CancelledError:
        if not opening.cancelled() and opening.exception() is None:
            await _to_its_end(_in(thread, _close, opening.result()))
        raise


async def _to_its_end(work: asyncio.Future[Any]) -> Any:
    """Wait for a thread that has begun, however often that is broken off.

    The line would be given to the next one while this process has it open still.
    """
    broken_off: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError as error:
            broken_off = error
    if broken_off is not None:
        raise broken_off
    return work.result()


def _opened(connection: Connection) -> Any:
    try:
        return serial.serial_for_url(
            connection.port,
            baudrate=connection.baudrate,
            bytesize=connection.bytesize,
            parity=connection.parity,
            stopbits=connection.stopbits,
            timeout=_LOOK_S,
            **_limits(connection),
        )
    except _LOST as error:
        raise errors.DeviceUnreachable(
            f"{connection.name}: {connection.port} cannot be opened: {error}",
            hint="Check the port's name, its rights, and that nothing else has it open.",
        ) from error
    except ValueError as error:
        raise errors.BadInput(f"{connection.name}: {connection.port}: {error}") from error


def _limits(connection: Connection) -> dict[str, Any]:
    """Return what the library can be told of limits at a port of this kind."""
    if connection.port.startswith("rfc2217://"):
        return {}  # its writes have a limit of their own
    limit_s = connection.timeout.total_seconds()
    return {"write_timeout": limit_s, **({} if connection.is_remote else {"exclusive": True})}


def _close(line: Any) -> None:
    wire: socket.socket | None = getattr(line, "_socket", None)
    with contextlib.suppress(*_LOST):  # a port that was pulled out
        line.close()
    if wire is not None:
        wire.close()  # the library leaves it open where the other side has reset it


class SerialDriver:
    """An open line. Not for use by several tasks at once."""

    def __init__(self, line: Any, connection: Connection, thread: Executor) -> None:
        self._line = line
        self._thread = thread
        self._connection = connection
        self._buffer = b""
        late = connection.timeout if connection.late is None else connection.late
        self._pacing = Pacing(
            OpenQuestion(connection.resource),
            answer_s=connection.timeout.total_seconds(),
            late_s=late.total_seconds(),
        )
        self.sent = False
        """Whether anything of the last question may have come to the device."""

    async def quiet(self) -> None:
        """Wait until no answer can come any more that nobody waits for."""
        await self._pacing.quiet()

    async def ask(self, question: bytes, expect: re.Pattern[bytes] | None = None) -> bytes:
        """Send a frame and return the data of the one that answers it.

        A frame that ``expect`` does not match is somebody else's, and passed over. Raises
        DeviceTimeout where no whole answer came in time, BadAnswer for a wrong checksum.
        """
        self.sent = False
        await self._pacing.turn()
        try:
            limit = self._connection.timeout
            with self._connection.quarantine.trial(limit), exchange(self._connection.name):
                data = await self._in_thread(question, expect, self._connection.timeout)
        except BaseException as error:
            if isinstance(error, errors.DeviceUnreachable) and error.not_done:
                self._pacing.answered()
            else:  # also where the line is lost: the device behind it may be there, and answer late
                self._pacing.unanswered()
            raise
        if self._has_part():
            self._pacing.unanswered()  # its rest is on its way, and is nobody's answer
        else:
            self._pacing.answered()
        return data

    def _has_part(self) -> bool:
        """Return whether a part of a frame has come behind the answer."""
        framing, rest = self._connection.framing, self._buffer
        while (found := framing.cut(rest, silent=True)) is not None and found[1]:
            rest = rest[found[1] :]
        return bool(rest.strip(b"\r\n\0 "))

    async def listen(self, within: timedelta | None, expect: re.Pattern[bytes] | None) -> bytes:
        """Return the data of the next frame that comes by itself, as from a barcode reader.

        What may be a late answer to somebody's question is let pass before. Without a limit it
        waits until it is cancelled. Raises DeviceTimeout, DeviceUnreachable and BadAnswer.
        """
        if await self._pacing.nothing_open():
            await _to_its_end(_in(self._thread, self._drop))
        return await self._in_thread(None, expect, within)

    async def _in_thread(
        self, question: bytes | None, expect: re.Pattern[bytes] | None, limit: timedelta | None
    ) -> bytes:
        stop = threading.Event()
        limit_s = None if limit is None else limit.total_seconds()
        work = _in(self._thread, self._exchange, question, expect, limit_s, stop)
        try:
            data: bytes = await asyncio.shield(work)
        except asyncio.CancelledError:
            stop.set()
            with contextlib.suppress(errors.SmartOpsError, asyncio.CancelledError):
                await _to_its_end(work)
            raise
        return data

    def _exchange(
        self,
        question: bytes | None,
        expect: re.Pattern[bytes] | None,
        limit_s: float | None,
        stop: threading.Event,
    ) -> bytes:
        name = self._connection.name
        if stop.is_set():  # cancelled before it was its turn
            cancelled = errors.DeviceTimeout(f"{name}: broken off before anything was sent")
            cancelled.not_done = True
            raise cancelled
        if question is not None:
            self._drop()
        try:
            if question is not None:
                self.sent = True
                self._line.write(self._connection.framing.wrapped(question))
                self._line.flush()
            data = self._frame(expect, limit_s, stop)
            self._take_rest()
        except serial.SerialTimeoutException as error:
            raise errors.DeviceTimeout(f"{name}: the line does not take what is sent") from error
        except _LOST as error:
            raise errors.DeviceUnreachable(f"{name}: the line is lost: {error}") from error
        return data

    def _drop(self) -> None:
        """Forget what has come so far: it is no answer to what is asked next."""
        self._buffer = b""
        try:
            self._line.reset_input_buffer()
        except _LOST as error:
            lost = errors.DeviceUnreachable(
                f"{self._connection.name}: the line is lost, and nothing was sent: {error}"
            )
            lost.not_done = True
            raise lost from error

    def _take_rest(self) -> None:
        """Take what has come behind a frame already, so that it is known where it ends."""
        with contextlib.suppress(*_LOST):  # the frame came whole: who asks next will see
            while len(self._buffer) < _MOST_BYTES and (waiting := self._line.in_waiting):
                self._buffer += self._line.read(waiting)

    def _frame(
        self, expect: re.Pattern[bytes] | None, limit_s: float | None, stop: threading.Event
    ) -> bytes:
        connection, began = self._connection, time.monotonic()
        framing, heard = connection.framing, began
        while not stop.is_set():
            chunk = self._line.read(max(1, self._line.in_waiting))
            now = time.monotonic()
            if chunk:
                self._buffer, heard = self._buffer + chunk, now
            silent = now - heard >= connection.silence.total_seconds()
            while (found := framing.cut(self._buffer, silent=silent)) is not None:
                body, size = found
                self._buffer = self._buffer[size:]
                try:
                    data = framing.checked(body)
                except ValueError as error:
                    raise errors.BadAnswer(f"{connection.name}: {error}") from None
                if expect is None or expect.search(data):
                    return data
            if len(self._buffer) > _MOST_BYTES:
                raise errors.BadAnswer(f"{connection.name}: {_MOST_BYTES} bytes without an end")
            if limit_s is not None and now - began >= limit_s:
                break
        part = f"; a part came: {self._buffer[:100].hex()}" if self._buffer else ""
        limit = "" if limit_s is None else f" in {limit_s:g} s"
        raise errors.DeviceTimeout(f"{connection.name}: no whole answer{limit}{part}")
