"""The plant's PLC as a client of another make finds it: mbpoll, which is made with libmodbus."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from smartops.drivers import modbus
from smartops.drivers.tags import Tag
from smartops.plant import Plant
from tests import other_makes
from tests.other_makes import Polled


async def poll(plant: Plant, *arguments: str) -> Polled:
    return await other_makes.mbpoll("127.0.0.1", *arguments, port=plant.addresses.modbus_port)


async def test_mbpoll_reads_what_the_plant_holds(plant: Plant) -> None:
    """Coils, inputs and registers, whole numbers and floats in either order of words."""
    line = plant.line
    line.speed_setpoint, line.temperature_setpoint = 133, 65.25
    assert (await poll(plant, "-t4", "-r0")).values == ["133"]
    assert (await poll(plant, "-t4:float", "-B", "-r1")).values == ["65.25"]
    assert (await poll(plant, "-t0", "-r0")).values == [str(int(line.pump))]
    assert (await poll(plant, "-t1", "-r0", "-c2")).values[0] == "1"
    [temperature] = (await poll(plant, "-t3:float", "-r1")).values
    assert float(temperature) == pytest.approx(line.snapshot().temperature, abs=2)
    [good] = (await poll(plant, "-t3:int", "-B", "-r3")).values
    assert int(good) == pytest.approx(line.snapshot().good, abs=50)
    batch = (await poll(plant, "-t3:hex", "-r13", "-c4")).values
    text = b"".join(bytes.fromhex(word.removeprefix("0x")) for word in batch)
    assert text.decode() == line.batch.ljust(8, "\0")


async def test_what_mbpoll_writes_is_what_the_plant_holds(plant: Plant) -> None:
    """With the functions for one and for many; what the PLC refuses has its name there too."""
    line = plant.line
    assert (await poll(plant, "-t4", "-r0", "144")).code == 0
    assert line.speed_setpoint == 144
    assert (await poll(plant, "-t4:float", "-B", "-r1", "66.5")).code == 0
    assert line.temperature_setpoint == 66.5
    for bit in (True, False):
        assert (await poll(plant, "-t0", "-r0", str(int(bit)))).code == 0
        assert line.pump is bit
    too_fast = await poll(plant, "-t4", "-r0", "301")
    assert too_fast.code == 1
    assert "Illegal data value" in too_fast.text
    nowhere = await poll(plant, "-t3", "-r20")
    assert nowhere.code == 1
    assert "Illegal data address" in nowhere.text
    assert line.speed_setpoint == 144
    written = [entry["values"] for entry in plant.log.entries("modbus.write")]
    assert len(written) == 5


async def test_mbpoll_and_the_driver_at_once(plant: Plant) -> None:
    """Two clients of the plant at the same time get their own answers."""
    tags = (Tag(name="speed", address=0), Tag(name="batch", area="input", address=13, count=4))
    connection = modbus.Connection(
        "plc", "127.0.0.1", plant.addresses.modbus_port, 1, timedelta(seconds=10), tags
    )
    plant.line.speed_setpoint = 155
    async with modbus.open_device(connection) as opened:
        polls = [asyncio.create_task(poll(plant, "-t4", "-r0")) for _ in range(3)]
        while not all(task.done() for task in polls):
            readings = await opened.read(["speed", "batch"])
            assert readings[0].value == 155
    assert [task.result().values for task in polls] == [["155"]] * 3
