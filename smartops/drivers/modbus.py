"""Modbus (TCP, RTU, RTU over TCP): read tags in few requests, write one and read it back.

pymodbus repeats writes on its own, so its retries are off; it hands back short answers and answers
of another function as good, so both are checked here; no exception of its leaves this module.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ExceptionResponse, ModbusPDU

from smartops import errors, locks
from smartops.drivers import wire_notes
from smartops.drivers.block_reading import BlockReader
from smartops.drivers.cancelling import heeded
from smartops.drivers.coalesce import MAX_BITS, MAX_WORDS, Block, Hole, gaps, plan_reads
from smartops.drivers.exchanges import exchange
from smartops.drivers.modbus_answers import ANSWERS, refusal
from smartops.drivers.pacing import Pacing
from smartops.drivers.quarantine import PATIENT, Patience, Quarantine
from smartops.drivers.readings import Reading, Value
from smartops.drivers.tags import Tag
from smartops.drivers.writing import TaggedDevice
from smartops.rehearsal import check_host, check_port

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it dumps packets on every error

Transport = Literal["tcp", "rtu-over-tcp", "rtu"]
_READ_FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_SHORT = 0
"""Stands for an answer with fewer values than were asked for: some devices cut it at their end."""
_BAD_ADDRESS = frozenset({2, 3, _SHORT})
_MOST_PLANS = 64
_NOBODY_THERE = 11


@dataclass(frozen=True)
class SerialLine:
    """A serial port and how it is set."""

    port: str
    baudrate: int = 9600
    parity: Literal["N", "E", "O"] = "N"
    stopbits: Literal[1, 2] = 1


@dataclass(frozen=True)
class Connection:
    """Where a device is, and what it holds."""

    name: str
    host: str
    port: int
    unit: int
    timeout: timedelta
    tags: tuple[Tag, ...]
    max_gap: int = 8
    max_registers: int = MAX_WORDS
    max_bits: int = MAX_BITS
    """How many registers, and coils or inputs, the device allows in one request."""
    transport: Transport = "tcp"
    line: SerialLine | None = None
    """For ``rtu``: the serial port; host and port do not count then."""
    pause: timedelta = timedelta()
    """The time between an answer and the next request."""
    late: timedelta | None = None
    """How long an answer may come late on a serial line; None: as long as the timeout."""
    holes: tuple[Hole, ...] = ()
    """Addresses that must never be asked for."""
    patience: Patience = PATIENT
    """How soon the device is left alone when it does not answer."""

    @property
    def resource(self) -> str:
        """The wire that steps must not share: all units behind one address are on it."""
        if self.line is not None:
            return wire_notes.line_at(self.line.port)
        kind = "serial" if self.transport == "rtu-over-tcp" else "modbus"  # a line has one name
        return f"{kind}://{self.host.lower()}:{self.port}"

    @property
    def quarantine(self) -> Quarantine:
        """What is known of whether this unit answers."""
        return Quarantine(self.name, self.resource, f"unit {self.unit}", self.patience)

    @property
    def where(self) -> str:
        """Where the device is, for people."""
        return self.line.port if self.line is not None else f"{self.host}:{self.port}"


@asynccontextmanager
async def open_device(connection: Connection) -> AsyncIterator[ModbusDriver]:
    """Connect, alone on the wire, and close at the end, whatever happens.

    Raises DeviceUnreachable, DeviceQuarantined and LockTimeout.
    """
    if connection.line is None:
        check_host(connection.name, connection.host)
    else:
        check_port(connection.name, connection.line.port)
    wire = Quarantine(connection.name, connection.resource, "", connection.patience)
    unit = connection.quarantine
    for place in (wire, unit):
        place.check()  # before it waits for the wire
    async with locks.exclusive(connection.resource):
        for place in (wire, unit):
            place.claim()
        client = _client(connection)
        driver = ModbusDriver(client, connection)
        try:
            with wire.trial(connection.timeout):
                await _connect(client, connection)
            yield driver
        finally:
            try:
                await driver.quiet()
            finally:
                client.close()


async def _connect(
    client: AsyncModbusTcpClient | AsyncModbusSerialClient, connection: Connection
) -> None:
    try:
        with heeded():
            connected = await client.connect()
    except (ValueError, OSError) as error:  # a baud rate or a port that the system does not know
        raise errors.DeviceUnreachable(f"{connection.name}: {error}") from error
    if not connected:
        raise errors.DeviceUnreachable(
            f"{connection.name}: no answer at {connection.where}",
            hint="Check the address, the network and that the device is on.",
        )


def _client(connection: Connection) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
    timeout_s = connection.timeout.total_seconds()
    line = connection.line
    client: AsyncModbusTcpClient | AsyncModbusSerialClient
    if connection.transport == "rtu" and line is not None:
        client = AsyncModbusSerialClient(
            line.port,
            framer=FramerType.RTU,
            baudrate=line.baudrate,
            parity=line.parity,
            stopbits=line.stopbits,
            timeout=timeout_s,
            retries=0,
            reconnect_delay=0,
        )
    else:
        framer = FramerType.SOCKET if connection.transport == "tcp" else FramerType.RTU
        client = AsyncModbusTcpClient(
            connection.host,
            port=connection.port,
            framer=framer,
            timeout=timeout_s,
            retries=0,
            reconnect_delay=0,
        )
    for answer in ANSWERS:
        client.register(answer)
    return client


class ModbusDriver(TaggedDevice[Tag]):
    """An open device. Not for use by several tasks at once."""

    def __init__(
        self, client: AsyncModbusTcpClient | AsyncModbusSerialClient, connection: Connection
    ) -> None:
        super().__init__(connection.name, connection.tags)
        self._client = client
        self._connection = connection
        self._holes: list[Hole] | None = None
        self._quarantine = connection.quarantine
        self._plans: dict[tuple[str, ...], list[BlockReader]] = {}
        late = connection.timeout if connection.late is None else connection.late
        self._pacing = Pacing(
            wire_notes.OpenQuestion(connection.resource) if connection.transport != "tcp" else None,
            pause_s=connection.pause.total_seconds(),
            answer_s=connection.timeout.total_seconds(),
            late_s=late.total_seconds(),
        )

    @property
    def connected(self) -> bool:
        """Whether the device can still be asked."""
        return bool(self._client.connected)

    async def quiet(self) -> None:
        """Wait until no answer can come any more that nobody waits for (serial lines only)."""
        await self._pacing.quiet()

    async def read(self, names: Iterable[str]) -> list[Reading]:
        """Return a reading for each name, in that order; one tag's fault harms no other.

        A tag that the device refuses, or whose words are no value, has quality bad and a reason.
        Raises UnknownTag, DeviceTimeout, DeviceBusy, DeviceUnreachable.
        """
        wanted = tuple(names)
        readings: dict[str, Reading] = {}
        for reader in self._readers(wanted):
            for reading in await self._read_block(reader):
                readings[reading.tag] = reading
        return [readings[name] for name in wanted]

    def plan(self, tags: Iterable[Tag]) -> list[Block]:
        """Return the requests that reading these tags takes."""
        connection = self._connection
        if self._holes is None:
            known = wire_notes.known_holes(connection.resource, connection.unit)
            self._holes = [*connection.holes, *known]
        return plan_reads(
            {tag.name: tag for tag in tags}.values(),
            max_gap=connection.max_gap,
            holes=self._holes,
            max_registers=connection.max_registers,
            max_bits=connection.max_bits,
        )

    def _readers(self, names: tuple[str, ...]) -> list[BlockReader]:
        """Return what reads these tags; whoever watches a device asks for the same ones again."""
        if names not in self._plans:
            plan = self.plan(map(self.tag, names))
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[names] = [BlockReader.of(block) for block in plan]
        return self._plans[names]

    # --- reading -----------------------------------------------------------------------------

    async def _read_block(self, reader: BlockReader) -> list[Reading]:
        try:
            data = await self._fetch(reader)
        except errors.DeviceRefused as error:
            if len(reader.parts) > 1 and error.code in _BAD_ADDRESS:
                return await self._one_by_one(reader.block)
            return reader.bad(str(error), datetime.now(UTC))
        return reader.readings(data, datetime.now(UTC))

    async def _one_by_one(self, block: Block) -> list[Reading]:
        """Read the tags of a block that was refused by themselves; remember where its holes are."""
        found: list[Reading] = []
        holes: list[Hole] = []
        for tag in block.tags:
            reader = BlockReader.of(Block(tag.area, tag.address, tag.words, (tag,)))
            try:
                found += reader.readings(await self._fetch(reader), datetime.now(UTC))
            except errors.DeviceRefused as error:
                found += reader.bad(str(error), datetime.now(UTC))
                holes.append(Hole(tag.area, tag.address, tag.address + tag.words - 1))
        # Where each tag can be read by itself, what lies between them was refused.
        holes = holes or gaps(block)
        self._holes = [*(self._holes or ()), *holes]
        self._plans.clear()
        wire_notes.remember_holes(self._connection.resource, self._connection.unit, holes)
        return found

    async def _fetch(self, reader: BlockReader) -> bytes:
        """Return the data of the answer, whole."""
        unit, block = self._connection.unit, reader.block
        read = {
            "coil": self._client.read_coils,
            "discrete": self._client.read_discrete_inputs,
            "holding": self._client.read_holding_registers,
            "input": self._client.read_input_registers,
        }[block.area]
        what = f"reading {block.area} {block.address}..{block.address + block.count - 1}"
        with heeded():
            answer: Any = await self._ask(
                lambda: read(block.address, count=block.count, device_id=unit),
                _READ_FUNCTIONS[block.area],
                what,
            )
        data: bytes = answer.data
        if len(data) != reader.size:
            self._pacing.unanswered()  # the right one may be on its way
            text = f"{len(data)} bytes came back, and not {reader.size}"
            short = errors.DeviceRefused(f"{self.name}: {what}: {text}")
            short.code = _SHORT
            raise short
        return data

    async def _ask(self, call: Callable[[], Awaitable[Any]], function: int, what: str) -> ModbusPDU:
        try:
            answer = await self._exchange(call, function, what)
        except (errors.DeviceTimeout, errors.DeviceBusy) as error:
            if isinstance(error, errors.DeviceTimeout) or error.code == _NOBODY_THERE:
                self._quarantine.unanswered(str(error))
            raise
        except (errors.DeviceRefused, errors.BadAnswer):
            self._quarantine.answered()
            raise
        self._quarantine.answered()
        return answer

    async def _exchange(
        self, call: Callable[[], Awaitable[Any]], function: int, what: str
    ) -> ModbusPDU:
        name = self.name
        await self._pacing.turn()
        self._quarantine.begin()
        try:
            asked = call()
        except ModbusException as error:  # raised when the call is made: nothing was sent
            lost = errors.DeviceUnreachable(f"{name}: {what}: the connection is closed")
            lost.not_done = True
            raise lost from error
        try:
            with exchange(name, ModbusException):
                answer: ModbusPDU = await asked
        except ModbusException as error:
            self._pacing.unanswered()
            if not self._client.connected:
                raise errors.DeviceUnreachable(f"{name}: {what}: connection lost") from error
            limit_s = self._connection.timeout.total_seconds()
            raise errors.DeviceTimeout(f"{name}: {what}: no answer in {limit_s:g} s") from error
        except asyncio.CancelledError:  # a step's time limit, or a cancelled run
            self._pacing.unanswered()
            self._quarantine.broken_off(self._connection.timeout)
            raise
        except BaseException:
            self._pacing.unanswered()
            raise
        if isinstance(answer, ExceptionResponse) and answer.function_code == function | 0x80:
            self._pacing.answered()
            raise refusal(answer.exception_code, f"{name}: {what}")
        if answer.function_code != function:
            self._pacing.unanswered()
            raise errors.BadAnswer(f"{name}: {what}: an answer to function {answer.function_code}")
        self._pacing.answered()
        return answer

    # --- writing -----------------------------------------------------------------------------

    async def send(self, tag: Tag, value: Value) -> None:
        """Send the value once; return when the device has acknowledged it."""
        function, parts = request_of(tag, value)
        client, address, unit = self._client, tag.address, self._connection.unit
        calls: dict[int, Callable[[], Awaitable[Any]]] = {
            5: lambda: client.write_coil(address, bool(parts[0]), device_id=unit),
            6: lambda: client.write_register(address, parts[0], device_id=unit),
            15: lambda: client.write_coils(address, [bool(p) for p in parts], device_id=unit),
            16: lambda: client.write_registers(address, parts, device_id=unit),
            22: lambda: client.mask_write_register(
                address=address, and_mask=parts[0], or_mask=parts[1], device_id=unit
            ),
        }
        await self._ask(calls[function], function, f"writing {tag.name}")

    def nearest(self, tag: Tag, value: Value) -> Value:
        """Return what the registers can hold of a value."""
        return tag.nearest(value)

    def shown(self, tag: Tag, value: Value) -> str:
        """Return the request that a write would send, for people. Raises ValueError."""
        function, parts = request_of(tag, value)
        words = " ".join(f"{part:04x}" for part in parts)
        what = f"{tag.area} {tag.address}"
        return f"function {function}, unit {self._connection.unit}, {what}: {words}"


def request_of(tag: Tag, value: Value) -> tuple[int, list[int]]:
    """Return the function that writes a value, and the numbers that go with it.

    A bit of a register goes by function 22, which changes that bit alone in the device: reading,
    changing and writing the register would undo what the device changes meanwhile.
    """
    parts = tag.encode(value)
    if tag.area == "coil":
        return (5 if tag.count == 1 else 15), parts
    if tag.bit is not None:
        place = tag.bit ^ 8 if tag.order == "BADC" else tag.bit
        mask = 1 << place
        return 22, [0xFFFF & ~mask, mask if parts[0] else 0]
    return (6 if len(parts) == 1 else 16), parts
