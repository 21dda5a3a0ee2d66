"""The Modbus driver against the plant's PLC, healthy and faulty."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from smartops import errors
from smartops.drivers import modbus
from smartops.drivers.readings import Command, CommandResult
from smartops.drivers.tag_files import load_tags
from smartops.drivers.tags import Tag
from smartops.drivers.writing import WriteOptions, holds
from smartops.plant import Plant
from tests.conftest import ROOT, free_port

TAGS = load_tags(ROOT / "deployments/tags/bottling-line.yaml")


class Log:
    """A command log in memory."""

    def __init__(self) -> None:
        self.intended: list[Command] = []
        self.concluded: list[CommandResult] = []

    def intend(self, command: Command) -> str:
        self.intended.append(command)
        return str(len(self.intended))

    def conclude(self, command_id: str, result: CommandResult) -> None:
        assert 1 <= int(command_id) <= len(self.intended)
        self.concluded.append(result)


@pytest.fixture
def connection(plant: Plant) -> modbus.Connection:
    return modbus.Connection(
        "plc", "127.0.0.1", plant.addresses.modbus_port, 1, timedelta(seconds=1.5), TAGS
    )


def writes(plant: Plant) -> list[Any]:
    return [entry["values"] for entry in plant.log.entries("modbus.write")]


async def test_every_tag_reads_what_the_line_holds(
    plant: Plant, connection: modbus.Connection
) -> None:
    """All types and byte orders, in one go, against the plant's own packing."""
    plant.faults.switch_on("plc-ignores-writes")
    async with modbus.open_device(connection) as device:
        readings = {r.tag: r for r in await device.read([tag.name for tag in TAGS])}
    now = plant.line.snapshot()
    assert all(reading.quality == "good" for reading in readings.values())
    assert readings["batch"].value == plant.line.batch
    assert readings["speed_setpoint"].value == now.speed_setpoint
    assert readings["temperature_setpoint"].value == now.temperature_setpoint
    assert readings["pump"].value == now.pump
    assert readings["door_closed"].value is True
    assert readings["tank_level"].value == pytest.approx(now.tank_level, abs=1)
    assert readings["temperature"].value == pytest.approx(now.temperature, abs=1)
    assert readings["good_count"].value == pytest.approx(now.good, abs=5)
    assert readings["scrap_count"].value == pytest.approx(now.scrap, abs=5)
    assert readings["energy"].value == pytest.approx(now.energy_kwh, abs=0.1)
    assert readings["tank_level"].unit == "%"


async def test_a_bad_address_harms_no_neighbour(connection: modbus.Connection) -> None:
    """A merged block with a hole is read tag by tag, and only the hole is bad."""
    odd = Tag(name="odd", area="input", address=20)
    device_with_hole = replace(connection, tags=(*TAGS, odd))
    async with modbus.open_device(device_with_hole) as device:
        batch, hole = await device.read(["batch", "odd"])
    assert batch.quality == "good"
    assert (hole.quality, hole.value) == ("bad", None)
    assert "illegal data address" in hole.reason


async def test_an_unknown_tag_names_the_known_ones(connection: modbus.Connection) -> None:
    """The error is the user's to mend, and says with what."""
    async with modbus.open_device(connection) as device:
        with pytest.raises(errors.UnknownTag, match="tank_level"):
            await device.read(["tank_levle"])


@pytest.mark.parametrize(
    ("tag", "value"),
    [("speed_setpoint", 150), ("temperature_setpoint", 65.3), ("pump", True), ("pump", False)],
)
async def test_a_write_is_read_back(
    plant: Plant, connection: modbus.Connection, tag: str, value: Any
) -> None:
    """Before, requested and after are on record; f32 rounding is no mismatch."""
    log = Log()
    async with modbus.open_device(connection) as device:
        command, result = await device.write(tag, value, log)
    assert result.state == "confirmed"
    assert result.after == value
    assert log.intended == [command]
    assert log.concluded == [result]
    assert len(writes(plant)) == 1


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("speed_setpoint", 251),
        ("speed_setpoint", -1),
        ("tank_level", 5),
        ("pump", 1),
        ("batch", "x"),
    ],
)
async def test_our_own_limits_send_nothing(
    plant: Plant, connection: modbus.Connection, tag: str, value: Any
) -> None:
    """A value that the tag map forbids never reaches the wire, nor the record of commands."""
    log = Log()
    async with modbus.open_device(connection) as device:
        with pytest.raises(errors.WriteRefused):
            await device.write(tag, value, log)
    assert writes(plant) == []
    assert log.intended == []


async def test_a_refusal_of_the_device(plant: Plant, connection: modbus.Connection) -> None:
    """Exception 3 to a write: known not to be done, on record as refused."""
    wide = replace(connection, tags=(Tag(name="s", address=0, allow_write=True),))
    log = Log()
    async with modbus.open_device(wide) as device:
        with pytest.raises(errors.DeviceRefused, match=r"illegal data value \(3\)"):
            await device.write("s", 301, log)
    assert log.concluded[0].state == "refused"
    assert plant.line.speed_setpoint == 120


async def test_a_device_that_keeps_its_value(plant: Plant, connection: modbus.Connection) -> None:
    """An acknowledged write that does not stick is a mismatch."""
    plant.faults.switch_on("plc-ignores-writes")
    log = Log()
    async with modbus.open_device(connection) as device:
        with pytest.raises(errors.WriteMismatch, match="wrote 111 1/min, but it holds 120 1/min"):
            await device.write(
                "speed_setpoint", 111, log, WriteOptions(verify_within=timedelta(seconds=0.2))
            )
    assert log.concluded == [CommandResult("mismatch", 120)]
    assert len(writes(plant)) == 1


async def test_restore_on_mismatch(plant: Plant, connection: modbus.Connection) -> None:
    """The value from before is written again, and its read-back decides what is said of it."""
    plant.faults.switch_on("plc-ignores-writes")
    log = Log()
    async with modbus.open_device(connection) as device:
        options = WriteOptions(verify_within=timedelta(seconds=0.1), restore_on_mismatch=True)
        with pytest.raises(errors.WriteMismatch, match="120 1/min was restored"):
            await device.write("speed_setpoint", 111, log, options)
    undo, command = log.concluded
    assert (command.state, command.restored, undo.state) == ("mismatch", True, "confirmed")
    assert [c.requested for c in log.intended] == [111, 120]
    assert writes(plant) == [[111], [120]]


async def test_no_answer_to_a_write_but_the_value_is_there(
    plant: Plant, connection: modbus.Connection
) -> None:
    """The read-back tells that it was done; it was sent once."""
    plant.faults.switch_on("plc-acts-without-answer")
    log = Log()
    async with modbus.open_device(connection) as device:
        _, result = await device.write("speed_setpoint", 112, log)
    assert result.state == "confirmed"
    assert writes(plant) == [[112]]


async def test_no_answer_to_an_unsafe_write_is_unknown(
    plant: Plant, connection: modbus.Connection
) -> None:
    """A pulse that reads back as before: never sent again, never said to have failed."""
    plant.faults.switch_on("plc-acts-without-answer")
    log = Log()
    async with modbus.open_device(connection) as device:
        with pytest.raises(errors.UnknownOutcome):
            await device.write("reset_counters", True, log)
    assert log.concluded[0].state == "unknown"
    assert writes(plant) == [[1]]


@pytest.mark.parametrize("value", [4_000_000_000, 10**18])
async def test_a_large_number_is_confirmed_only_by_itself(
    plant: Plant, connection: modbus.Connection, value: int
) -> None:
    """One more or less is another number, however large it is."""
    tag = Tag(name="t", address=0, kind="u64", allow_write=True)
    assert holds(value, tag.nearest(value), 0)
    assert not holds(value + 3, tag.nearest(value), 0)
    assert holds(value + 3, tag.nearest(value), 3)
    tiny = Tag(name="t", address=0, kind="f64", allow_write=True)
    assert not holds(0.0, tiny.nearest(5e-10), 0)


async def test_the_caller_may_forbid_repetition(
    plant: Plant, connection: modbus.Connection
) -> None:
    """The tag says idempotent, the job says unsafe: the job is heard."""
    plant.faults.switch_on("plc-acts-without-answer")
    plant.line.speed_setpoint = 112
    async with modbus.open_device(connection) as device:
        with pytest.raises(errors.UnknownOutcome):
            await device.write("speed_setpoint", 112, Log(), WriteOptions(repeatable=False))
        with pytest.raises(errors.DeviceTimeout):
            await device.write("speed_setpoint", 112, Log())


async def test_cancelling_a_write_leaves_an_unknown_on_record(
    plant: Plant, connection: modbus.Connection
) -> None:
    """Cancelled after sending: the record says unknown, the wire is free again."""
    plant.faults.switch_on("plc-acts-without-answer")
    log = Log()

    async def write() -> None:
        async with modbus.open_device(replace(connection, timeout=timedelta(seconds=60))) as device:
            await device.write("reset_counters", True, log)

    writing = asyncio.create_task(write())
    while not writes(plant):
        await asyncio.sleep(0.01)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert [result.state for result in log.concluded] == ["unknown"]
    plant.faults.switch_off("plc-acts-without-answer")
    async with modbus.open_device(connection) as device:
        assert (await device.read(["speed_setpoint"]))[0].quality == "good"


async def test_a_dead_device(connection: modbus.Connection) -> None:
    """Nobody listens: unreachable, with its address."""
    dead = replace(connection, port=free_port())
    with pytest.raises(errors.DeviceUnreachable, match=str(dead.port)):
        async with modbus.open_device(dead):
            pass


@pytest.mark.parametrize(
    ("fault", "error"), [("plc-silent", errors.DeviceTimeout), ("plc-busy", errors.DeviceBusy)]
)
async def test_faults_of_a_read(
    plant: Plant, connection: modbus.Connection, fault: str, error: type[Exception]
) -> None:
    """Each fault has its own class, and all of them are transient."""
    plant.faults.switch_on(fault)
    async with modbus.open_device(connection) as device:
        with pytest.raises(error) as raised:
            await device.read(["speed"])
    assert isinstance(raised.value, errors.TransientError)


async def test_busy_before_a_write_sends_nothing(
    plant: Plant, connection: modbus.Connection
) -> None:
    """The value from before cannot be read, so the write does not start."""
    plant.faults.switch_on("plc-busy")
    log = Log()
    async with modbus.open_device(connection) as device:
        with pytest.raises(errors.DeviceBusy):
            await device.write("speed_setpoint", 130, log)
    assert log.intended == []


async def test_one_talker_on_one_wire(connection: modbus.Connection) -> None:
    """Ten openers at once: never two inside."""
    inside = most = 0

    async def use() -> None:
        nonlocal inside, most
        async with modbus.open_device(connection) as device:
            inside += 1
            most = max(most, inside)
            await device.read(["speed"])
            inside -= 1

    await asyncio.gather(*(use() for _ in range(10)))
    assert most == 1
