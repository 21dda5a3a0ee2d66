"""Modbus over each transport against a device that misbehaves: what each fault comes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from blocks import ModbusDevice
from scripts.fault_table import MODBUS
from smartops import errors, rehearsal
from smartops.drivers import modbus, wire_notes
from smartops.drivers.coalesce import Hole
from smartops.drivers.tags import Tag
from smartops.drivers.writing import WriteOptions
from tests import modbus_slave
from tests.fault_cells import ended
from tests.integration.test_modbus_driver import Log
from tests.modbus_slave import LATE_S, Slave

pytestmark = pytest.mark.usefixtures("home")
TAGS = (
    Tag(name="first", address=5, kind="u16"),
    Tag(name="second", address=20, kind="u16"),
    Tag(name="far", address=150, kind="u16"),
    Tag(name="level", address=30, kind="u16", allow_write=True),
    Tag(name="pulse", address=31, kind="u16", allow_write=True),
    Tag(name="bit3", address=40, kind="bool", bit=3, allow_write=True),
    Tag(name="swapped", address=41, kind="bool", bit=3, order="BADC", allow_write=True),
    Tag(name="curve", address=60, kind="i32", count=4, order="CDAB", scale=0.1, allow_write=True),
)
TRANSPORTS = ("tcp", "rtu-over-tcp", "rtu")
CELLS = [
    (transport, fault.name)
    for transport in TRANSPORTS
    for fault in MODBUS.faults
    if (transport, fault.name) != ("rtu", "reset")  # a serial line has no connection to reset
]
LIMIT_S = 0.2
"""The timeout where time has to run out."""
PATIENT_S = 5.0
LATE_WINDOW_S = 4.0
"""Much more than a late answer takes, where one is on its way."""
SLACK_S = 10.0
"""Within which a call ends whose timeouts are shorter, on a loaded machine."""
OPTIONS = WriteOptions(verify_within=timedelta(seconds=0.2))


@pytest.fixture(params=TRANSPORTS)
async def slave(request: pytest.FixtureRequest) -> AsyncIterator[Slave]:
    if request.param == "rtu":
        async with modbus_slave.on_pty() as found:
            yield found
    else:
        async with modbus_slave.on_socket("tcp" if request.param == "tcp" else "rtu") as found:
            yield found


def to(slave: Slave, **changes: Any) -> modbus.Connection:
    patient = timedelta(seconds=PATIENT_S)
    connection = modbus.Connection("plc", "127.0.0.1", slave.port, 1, patient, TAGS)
    if slave.path:
        line = modbus.SerialLine(slave.path, baudrate=115_200)
        connection = replace(connection, transport="rtu", line=line)
    elif slave.framing == "rtu":
        connection = replace(connection, transport="rtu-over-tcp")
    late = timedelta(seconds=LATE_S + 0.2)
    return replace(connection, **{"late": late, **changes})


def begin(device: modbus.ModbusDriver, slave: Slave, fault: str) -> None:
    """Begin to fail, and to be in a hurry where time has to run out; without a fault, end both."""
    slave.fault = fault
    hurried = fault not in {"", "slow"} and not fault.startswith("exception")
    limit_s = LIMIT_S if hurried else PATIENT_S
    device._client.ctx.comm_params.timeout_connect = device._pacing.answer_s = limit_s
    if fault == "late":
        device._pacing.late_s = LATE_WINDOW_S


async def values(connection: modbus.Connection, *names: str) -> list[Any]:
    async with modbus.open_device(connection) as device:
        return [reading.value for reading in await device.read(names)]


async def test_reading_and_writing(slave: Slave) -> None:
    """Scattered tags, arrays in their order, single bits that leave the others alone."""
    connection = to(slave)
    assert await values(connection, "far", "first", "second") == [1150, 1005, 1020]
    slave.registers[40] = slave.registers[41] = 0
    async with modbus.open_device(connection) as device:
        for name, value in (("level", 7), ("bit3", True), ("swapped", True)):
            assert (await device.write(name, value, Log(), OPTIONS))[1].state == "confirmed"
        await device.write("curve", [-1.5, 0.0, 70000.1, 2.0], Log(), OPTIONS)
    assert slave.registers[30] == 7
    assert slave.registers[40:42] == [1 << 3, 1 << 11]
    assert slave.registers[60:68] == [65521, 65535, 0, 0, 44641, 10, 20, 0]
    assert await values(connection, "curve") == [[-1.5, 0.0, 70000.1, 2.0]]


async def test_a_device_that_allows_few_registers(slave: Slave) -> None:
    """No request has more than it allows, for single tags and for arrays, there and back."""
    slave.most = 20
    tags = [Tag(name=f"t{at}", address=at) for at in range(50)]
    row = Tag(name="row", address=60, count=20, allow_write=True)
    device = ModbusDevice(host="127.0.0.1", max_registers=20, tags=[*tags, row])
    connection = replace(to(slave), tags=tuple(device.tags), max_registers=device.max_registers)
    values = list(range(20))
    async with modbus.open_device(connection) as opened:
        readings = await opened.read([tag.name for tag in (*tags, row)])
        assert [r.value for r in readings[:-1]] == [1000 + tag.address for tag in tags]
        assert sorted(slave.counts) == [10, 20, 20, 20]
        _, result = await opened.write("row", values, Log())
    assert (result.state, slave.registers[60:80]) == ("confirmed", values)
    assert max(slave.counts) == 20


@pytest.mark.parametrize(("slave", "fault"), CELLS, indirect=["slave"])
async def test_a_fault_never_gives_a_wrong_value(slave: Slave, fault: str) -> None:
    """Not in this read, nor in the next one, whoever makes it."""
    connection = to(slave)

    async def first() -> str:
        [reading] = await device.read(["first"])
        assert (reading.value, reading.quality) in {(1005, "good"), (None, "bad")}
        return "bad" if reading.value is None else "value"

    async with modbus.open_device(connection) as device:
        begin(device, slave, fault)
        end = await ended(first(), SLACK_S)
        assert end in MODBUS.end(fault, "read").split(" or ")
        begin(device, slave, "")
        try:
            assert [r.value for r in await device.read(["second"])] == [1020]
        except errors.DeviceUnreachable:
            assert fault in {"reset", "garbage"}
    assert await values(connection, "far", "second") == [1150, 1020]


@pytest.mark.parametrize(("slave", "fault"), CELLS, indirect=["slave"])
async def test_a_fault_never_sends_a_write_twice(slave: Slave, fault: str) -> None:
    """And what cannot be told is called unknown, unless the value is seen to be there."""
    connection = to(slave)
    log = Log()

    async def write() -> str:
        return (await device.write("pulse", 3, log, OPTIONS))[1].state

    async with modbus.open_device(connection) as device:
        sent = device.send

        async def send(tag: Any, value: Any) -> None:
            begin(device, slave, fault)  # what comes before the write goes well
            await sent(tag, value)

        device.send = send  # type: ignore[method-assign]
        end = await ended(write(), SLACK_S)
    assert end in MODBUS.end(fault, "write").split(" or ")
    [concluded] = log.concluded
    assert len(slave.writes) == 1
    done = slave.registers[31] == 3
    assert concluded.state in ({"confirmed", "unknown"} if done else {"refused", "unknown"})
    if fault in {"exception-1", "exception-2", "exception-6"}:
        assert concluded.state == "refused"
    slave.fault = ""
    assert await values(connection, "second", "pulse") == [1020, slave.registers[31]]


async def test_whoever_comes_next_waits_for_a_late_answer() -> None:
    """A process that is killed leaves its question open: the next one lets the answer pass."""
    async with modbus_slave.on_socket("rtu") as slave:
        connection = to(slave, timeout=timedelta(seconds=3))
        wire_notes.OpenQuestion(connection.resource).ask()
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await values(connection, "first") == [1005]
        assert slave.requests[0][0] - began >= LATE_S + 3
        began = loop.time()
        await values(connection, "first")
        assert slave.requests[-1][0] - began < LATE_S + 3, "nothing is open any more"


async def test_a_cancelled_request_is_waited_out() -> None:
    """The step's time limit ends the wait, and not the bus's quiet."""
    async with modbus_slave.on_socket("rtu") as slave:
        connection = to(slave, timeout=timedelta(seconds=5))
        slave.fault = "late"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(values(connection, "first"), 0.1)
        slave.fault = ""
        assert await values(connection, "second") == [1020]


async def test_a_wait_that_is_broken_off_early_is_waited_out_whole() -> None:
    """The device has its whole time, and the time for late answers, from when it was asked."""
    async with modbus_slave.on_socket("rtu") as slave:
        connection = to(slave, timeout=timedelta(seconds=4), late=timedelta())
        slave.fault = "late"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(values(connection, "first"), 0.1)
        slave.fault = ""
        assert await values(connection, "second") == [1020]


async def test_a_pause_between_requests(slave: Slave) -> None:
    """Slow devices are given time."""
    await values(to(slave, pause=timedelta(seconds=0.15)), "first", "far")
    (first, _, _), (second, _, _) = slave.requests
    assert second - first >= 0.15


async def test_holes_are_found_once_and_remembered() -> None:
    """A block that is refused is read tag by tag, and planned around from then on."""
    async with modbus_slave.on_socket("tcp") as slave:
        slave.refused = frozenset({12})
        connection = to(slave, max_gap=20, late=None)
        assert await values(connection, "first", "second") == [1005, 1020]
        assert len(slave.requests) == 3
        assert await values(connection, "first", "second") == [1005, 1020]
        assert len(slave.requests) == 5, "both by themselves, and nothing refused"
        slave.refused = frozenset()
        declared = replace(connection, port=connection.port, holes=(Hole("holding", 25, 25),))
        assert await values(declared, "second", "level") == [1020, 1030]
        assert len(slave.requests) == 7


async def test_a_rehearsal_reaches_only_a_simulated_line() -> None:
    """A pseudo-terminal is one, a port of this machine is not."""
    token = rehearsal.rehearsing.set(True)
    try:
        async with modbus_slave.on_pty() as slave:
            assert await values(to(slave), "first") == [1005]
        line = modbus.SerialLine("/dev/ttyS0")
        with pytest.raises(errors.RehearsalRefused):
            await values(replace(to(slave), line=line), "first")
    finally:
        rehearsal.rehearsing.reset(token)


async def test_what_the_tag_map_forbids_is_not_sent(slave: Slave) -> None:
    """A step that is too large, an interlock that is not as it should be, a name that is none."""
    tags = (
        Tag(name="door", address=10, kind="u16", enum={"open": 0, "closed": 1}),
        Tag(
            name="speed",
            address=11,
            max_step=10,
            allow_write=True,
            interlocks=({"tag": "door", "value": "closed"},),
        ),
        Tag(name="mode", address=12, enum={"hand": 0, "auto": 1}, allow_write=True),
    )
    connection = to(slave, tags=tags)
    slave.registers[10:13] = [0, 100, 0]

    async def refused(name: str, value: Any) -> str:
        async with modbus.open_device(connection) as device:
            with pytest.raises(errors.WriteRefused) as error:
                await device.write(name, value, Log(), OPTIONS)
        return str(error.value)

    assert "door == closed is needed, and it is open" in await refused("speed", 105)
    slave.registers[10] = 1
    assert "largest step" in await refused("speed", 111)
    slave.registers[10] = 5
    assert "cannot be told" in await refused("speed", 105)
    assert "none of hand, auto" in await refused("mode", "remote")
    assert slave.writes == []
    slave.registers[10] = 1
    async with modbus.open_device(connection) as device:
        await device.write("speed", 110, Log(), OPTIONS)
        command, _ = await device.write("mode", "auto", Log(), OPTIONS)
        assert device.shown(device.tag("mode"), "auto") == "function 6, unit 1, holding 12: 0001"
    assert (command.before, slave.registers[11:13]) == ("hand", [110, 1])
