"""OPC UA subscriptions: every change is told, and the loss of a session is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.node import Node
from asyncua.server.server import Server

from smartops import errors
from smartops.drivers import opcua
from smartops.drivers.opcua_session import Connection
from smartops.drivers.opcua_tags import OpcTag
from tests.conftest import free_port
from tests.integration.test_modbus_driver import Log

pytestmark = pytest.mark.usefixtures("home")
URI = "urn:test:changes"
OFTEN = timedelta(milliseconds=50)
MANY = 500


class Counting:
    """A server with a counter."""

    def __init__(self, server: Server, counter: Node, url: str) -> None:
        self.server, self.counter = server, counter
        self.connection = Connection(
            "counter",
            url,
            tuple(
                OpcTag(name=name, node=f"nsu={URI};s={node}")
                for name, node in (("count", "Count"), ("nothing", "Nothing"))
            ),
        )

    async def set(self, value: int, status: int = 0) -> None:
        data = ua.DataValue(
            ua.Variant(value, ua.VariantType.Int64),
            ua.StatusCode(ua.UInt32(status)),
            SourceTimestamp=ua.DateTime.now(UTC),
        )
        await self.server.write_attribute_value(self.counter.nodeid, data)


@pytest.fixture
async def counting() -> AsyncIterator[Counting]:
    server = Server()
    await server.init()
    url = f"opc.tcp://127.0.0.1:{free_port()}"
    server.set_endpoint(url)
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(URI)
    counter = await server.nodes.objects.add_variable(
        ua.NodeId.from_string(f"ns={index};s=Count"), f"{index}:Count", 0, ua.VariantType.Int64
    )
    await server.start()
    try:
        yield Counting(server, counter, url)
    finally:
        await server.stop()


async def test_a_part_of_an_array(counting: Counting) -> None:
    """Is watched; a server that knows no ranges is not believed, and its array not replaced."""
    index = await counting.server.get_namespace_index(URI)
    node = ua.NodeId.from_string(f"ns={index};s=Many")
    array = await counting.server.nodes.objects.add_variable(
        node, f"{index}:Many", [1, 2, 3, 4], ua.VariantType.Int32
    )
    await array.set_writable()
    part = OpcTag(name="part", node=f"nsu={URI};s=Many", index_range="2", allow_write=True)
    connection = replace(counting.connection, tags=(part,))
    async with (
        opcua.open_server(connection, alone=False) as client,
        aclosing(client.changes(["part"], OFTEN)) as changes,
    ):
        assert (await anext(changes)).value == 3
        await array.write_value([1, 2, 30, 4], ua.VariantType.Int32)
        assert (await asyncio.wait_for(anext(changes), 30)).value == 30
        [reading] = await client.read(["part"])
        assert (reading.quality, reading.value) == ("bad", None)
        assert "it knows no index ranges" in reading.reason
        with pytest.raises(errors.DeviceRefused, match="it knows no index ranges"):
            await client.write("part", 5, Log())
    assert await array.read_value() == [1, 2, 30, 4]


async def test_no_change_is_left_out(counting: Counting) -> None:
    """Though the server tells them every 50 ms only; what comes first is what it holds."""
    async with (
        opcua.open_server(counting.connection, alone=False) as client,
        aclosing(client.changes(["count"], OFTEN)) as changes,
    ):
        assert (await anext(changes)).value == 0
        for value in range(1, MANY + 1):
            await counting.set(value)
        found: list[Any] = []
        async with asyncio.timeout(60):
            while len(found) < MANY:
                reading = await anext(changes)
                found.append(reading.value)
                assert reading.reason == ""
                assert reading.source_at is not None
    assert found == list(range(1, MANY + 1))


async def test_qualities_come_with_the_changes(counting: Counting) -> None:
    """Uncertain and bad as for a read; lost changes are told of."""
    async with (
        opcua.open_server(counting.connection, alone=False) as client,
        aclosing(client.changes(["count"], OFTEN)) as changes,
    ):
        await anext(changes)
        told = []
        for value, status in ((1, 0x40900000), (2, 0x80000000), (3, 0x480)):
            await counting.set(value, status)
            async with asyncio.timeout(30):
                reading = await anext(changes)
            told.append((reading.quality, reading.value, reading.reason))
    assert told == [
        ("uncertain", 1, "UncertainLastUsableValue"),
        ("bad", None, "Bad"),
        ("good", 3, "changes before this one were lost"),
    ]


async def test_others_may_use_the_server_meanwhile(counting: Counting) -> None:
    """Who watches has no lock on it."""
    async with (
        opcua.open_server(counting.connection, alone=False) as watching,
        aclosing(watching.changes(["count"], OFTEN)) as changes,
    ):
        await anext(changes)
        async with asyncio.timeout(20), opcua.open_server(counting.connection) as client:
            [reading] = await client.read(["count"])
        assert reading.value == 0


async def test_a_node_that_is_not_there(counting: Counting) -> None:
    """It is refused at once, instead of never changing."""
    async with opcua.open_server(counting.connection, alone=False) as client:
        with pytest.raises(errors.DeviceRefused, match="subscribing to nothing: BadNodeIdUnknown"):
            await anext(client.changes(["count", "nothing"], OFTEN))


async def test_a_server_that_goes_is_noticed(counting: Counting) -> None:
    """The subscription ends with an error, instead of silence."""
    began = datetime.now(UTC)
    async with opcua.open_server(counting.connection, alone=False) as client:
        changes = client.changes(["count"], OFTEN)
        await anext(changes)
        stopping = asyncio.create_task(counting.server.stop())
        with pytest.raises(errors.DeviceUnreachable):
            await anext(changes)
        await stopping
    assert datetime.now(UTC) - began < timedelta(seconds=60)
