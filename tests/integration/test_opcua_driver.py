"""The OPC UA driver against the plant, and against a server that wants security and users."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from smartops import errors
from smartops.drivers import opcua
from smartops.drivers.opcua_session import Connection
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.writing import WriteOptions
from smartops.plant import Plant
from smartops.plant.opcua_server import NAMESPACE
from tests.conftest import free_port
from tests.integration.test_modbus_driver import Log

OPTIONS = WriteOptions(verify_within=timedelta(seconds=0.2))


LINE = tuple(
    OpcTag(name=name, node=f"nsu={NAMESPACE};s={node}", **fields)
    for name, node, fields in (
        ("speed", "Speed", {"unit": "1/min"}),
        ("temperature", "Temperature", {}),
        ("batch", "Batch", {}),
        ("good", "Good", {}),
        ("setpoint", "SpeedSetpoint", {"allow_write": True, "max": 400.0}),
        ("nothing", "Nothing", {}),
    )
)


@pytest.fixture
def line(opcua_plant: Plant) -> Connection:
    return Connection("cell", opcua_plant.addresses.opcua_url, LINE, timeout=timedelta(seconds=4))


async def test_reading_the_line(opcua_plant: Plant, line: Connection) -> None:
    """Values with both times; a node that is not there is bad, and harms no other."""
    async with opcua.open_server(line) as server:
        readings = {r.tag: r for r in await server.read(["speed", "nothing", "batch", "good"])}
    assert readings["batch"].value == opcua_plant.line.batch
    assert readings["speed"].value == pytest.approx(opcua_plant.line.snapshot().speed, abs=5)
    assert readings["speed"].source_at is not None
    assert abs(readings["speed"].source_at - datetime.now(UTC)) < timedelta(minutes=1)
    bad = readings["nothing"]
    assert (bad.quality, bad.value, bad.reason) == ("bad", None, "BadNodeIdUnknown")


async def test_uncertain_is_neither_good_nor_bad(opcua_plant: Plant, line: Connection) -> None:
    """The value is there, and its status is kept."""
    opcua_plant.faults.switch_on("opcua-uncertain")
    async with opcua.open_server(line) as server:
        while (reading := (await server.read(["speed"]))[0]).quality == "good":
            await asyncio.sleep(0.02)
    assert (reading.quality, reading.reason) == ("uncertain", "UncertainLastUsableValue")
    assert reading.value is not None


async def test_a_write_has_the_servers_type_and_is_read_back(
    opcua_plant: Plant, line: Connection
) -> None:
    """An Int16 takes 150 and refuses 1.5 and 40000 before anything is sent."""
    log = Log()
    async with opcua.open_server(line) as server:
        _, result = await server.write("setpoint", 150, log, OPTIONS)
        assert (result.state, opcua_plant.line.speed_setpoint) == ("confirmed", 150)
        for value in (1.5, -40_000, True, "fast"):
            with pytest.raises((errors.DeviceRefused, errors.WriteRefused)):
                await server.write("setpoint", value, log, OPTIONS)
        with pytest.raises(errors.WriteMismatch, match="wrote 350, but it holds 150"):
            await server.write("setpoint", 350, log, OPTIONS)
    assert [entry["value"] for entry in opcua_plant.log.entries("opcua.write")] == [150, 350]


async def test_a_method_is_called_with_its_types(opcua_plant: Plant, line: Connection) -> None:
    """And gives what it gives."""
    async with opcua.open_server(line) as server:
        line_node, method = f"nsu={NAMESPACE};s=Line", f"nsu={NAMESPACE};s=ResetCounters"
        arguments = await server.prepare(method, ["shift end"])
        [counted] = await server.call(line_node, method, arguments, repeatable=False)
        assert counted >= 4000
        with pytest.raises(errors.BadInput, match="takes the arguments"):
            await server.prepare(method, [])
        with pytest.raises(errors.BadInput, match="no String"):
            await server.prepare(method, [5])
    [entry] = opcua_plant.log.entries("opcua.call")
    assert entry["reason"] == "shift end"


async def test_browsing_gives_a_tag_map(line: Connection) -> None:
    """Nodes by the URI of their namespace, with their types."""
    async with opcua.open_server(line) as server:
        found = {entry["name"]: entry for entry in await server.browse()}
    assert found["Line/SpeedSetpoint"]["node"] == f"nsu={NAMESPACE};s=SpeedSetpoint"
    assert found["Line/SpeedSetpoint"]["type"] == "Int16"
    assert found["Line/ResetCounters"]["class"] == "method"


async def test_a_server_that_is_away(opcua_plant: Plant, line: Connection) -> None:
    """Nobody answers; and one that goes in the middle is an error of ours."""
    gone = replace(line, url=f"opc.tcp://127.0.0.1:{free_port()}")
    with pytest.raises(errors.DeviceUnreachable):
        async with opcua.open_server(gone):
            pass
    async with opcua.open_server(line) as server:
        await server.read(["speed"])
        opcua_plant.faults.switch_on("opcua-offline")

        async def until_it_fails() -> None:
            while True:
                await server.read(["speed"])
                await asyncio.sleep(0.02)

        with pytest.raises(errors.TransientError):
            await until_it_fails()
