"""The OPC UA driver against a server made with node-opcua."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from smartops import errors
from smartops.drivers import opcua, opcua_session, opcua_trust
from smartops.drivers.opcua_session import Connection
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.writing import WriteOptions
from tests import other_makes
from tests.conftest import free_port, wait_for
from tests.integration.test_modbus_driver import Log
from tests.other_makes import Server

pytestmark = pytest.mark.usefixtures("home")
NS = "urn:test:other-make"
OPTIONS = WriteOptions(verify_within=timedelta(seconds=10))

VALUES: tuple[tuple[str, Any, Any], ...] = (
    ("Boolean", True, False),
    ("SByte", -100, 127),
    ("Byte", 200, 255),
    ("Int16", -30000, 32767),
    ("UInt16", 60000, 65535),
    ("Int32", -2_000_000_000, 2**31 - 1),
    ("UInt32", 4_000_000_000, 2**32 - 1),
    ("Int64", -2, -(2**63)),
    ("UInt64", 2**63 + 1, 2**64 - 1),
    ("Float", 64.09, 65.3),
    ("Double", 0.1, 1e-300),
    ("String", "PUMP 7 °C", "Lager µm"),
    ("DateTime", "2026-01-02T03:04:05.678000+00:00", "2026-05-06T07:08:09.123000+00:00"),
    ("Guid", "72962b91-fa75-4ae6-8d28-b404dc7daf63", "00000000-0000-4000-8000-00000000abcd"),
    ("ByteString", "00ff10", "fffe"),
    ("LocalizedText", "Zelle", "Cell"),
    ("State", 2, 3),
    ("Duration", 1500.5, 20.25),
    ("Anything", 11, 12),
    ("AnyNumber", 2.5, 65.3),
    ("Booleans", [True, False, True], [False, True, True]),
    ("UInt16s", [1, 2, 65535], [7, 8, 9]),
    ("Floats", [0.1, -2.5], [65.3, 0.2]),
    ("Doubles", [0.1, 1e300], [1e-300, -0.5]),
    ("Strings", ["one", "", "three"], ["a", "ß", ""]),
    ("NoInt32s", [], []),
    ("Matrix", [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[6.0, 5.0, 4.0], [3.0, 2.0, 1.5]]),
)
"""Name of a node, what it holds, and another value of its type."""
OTHERS = (
    "Long",
    "Uncertain",
    "SensorFailure",
    "Waiting",
    "LocalOverride",
    "ReadOnly",
    "Limited",
    "Stuck",
    "Recipe",
    "Recipes",
    "NotThere",
    *(f"N{number}" for number in range(40)),
)
PARTS: tuple[tuple[str, str, str, Any, Any], ...] = (
    ("one", "UInt16s", "1", 2, 20),
    ("two", "UInt16s", "1:2", [2, 65535], [21, 22]),
    ("far", "Long", "12345:12347", [12345.5, 12346.5, 12347.5], [1.0, 2.0, 3.0]),
    ("row", "Matrix", "1,0:2", [4.0, 5.0, 6.0], [44.0, 55.0, 66.0]),
    ("cell", "Matrix", "0,2", 3.0, 33.0),
    ("corner", "Matrix", "0:1,1:2", [[2.0, 3.0], [5.0, 6.0]], [[7.0, 8.0], [9.0, 9.5]]),
)
"""Name of a tag, its node, its range, what it holds, and another value of its shape."""
NO_PARTS = (("beyond", "UInt16s", "5"), ("partly", "UInt16s", "1:9"), ("none", "Int32", "0"))
TAGS = tuple(
    OpcTag(name=name.lower(), node=f"nsu={NS};s={name}", allow_write=True)
    for name in (*(row[0] for row in VALUES), *OTHERS)
) + tuple(
    OpcTag(name=row[0], node=f"nsu={NS};s={row[1]}", index_range=row[2], allow_write=True)
    for row in (*PARTS, *NO_PARTS)
)


@dataclass
class Made:
    """The running server, its address, and the folder of its files."""

    server: Server
    url: str
    folder: Path

    def connection(self, **changes: Any) -> Connection:
        """Return a connection without security."""
        connection = Connection("cell", self.url, TAGS, timeout=timedelta(seconds=20))
        return replace(connection, **changes)

    async def secured(self, **changes: Any) -> Connection:
        """Return an encrypted connection, after each side has trusted the other's certificate."""
        connection = self.connection(policy="Basic256Sha256", **changes)
        opcua_trust.trust(self.url, await opcua_session.offered_certificate(connection))
        self.trust("client", opcua_trust.own_certificate()[0])
        return connection

    def trust(self, whose: str, certificate: Path) -> None:
        """Make the server trust a client's or a user's certificate."""
        before = len(self.server.noted("trusted"))
        self.server.tell(f"trust {whose} {certificate}")
        wait_for(lambda: len(self.server.noted("trusted")) > before, "trusted by the server")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """One server for all tests: it takes seconds to start."""
    folder = tmp_path_factory.mktemp("node-opcua")
    port = free_port()
    server = other_makes.node_opcua(port, folder)
    with other_makes.running(server):
        yield Made(server, f"opc.tcp://127.0.0.1:{port}", folder)


async def test_every_type_is_read_and_written(made: Made) -> None:
    """What is written is read back, of the server's own type; each is sent once."""
    async with opcua.open_server(made.connection()) as server:
        readings = await server.read(name.lower() for name, _, _ in VALUES)
        assert {r.tag: r.reason for r in readings if r.quality != "good"} == {}
        assert [(r.tag, r.value) for r in readings] == [(n.lower(), v) for n, v, _ in VALUES]
        for name, value, other in VALUES:
            before = len(made.server.noted("WriteRequest"))
            for wanted in (other, value):
                _, result = await server.write(name.lower(), wanted, Log(), OPTIONS)
                assert (name, result.state, result.after) == (name, "confirmed", wanted)
            assert len(made.server.noted("WriteRequest")) == before + 2


async def test_parts_of_arrays(made: Made) -> None:
    """Only the part is read and written, by the server: the rest of the array stays as it was."""
    async with opcua.open_server(made.connection()) as server:
        wholes = ["uint16s", "long", "matrix"]
        before = [reading.value for reading in await server.read(wholes)]
        readings = await server.read([name for name, *_ in PARTS])
        assert [r.value for r in readings] == [value for *_, value, _ in PARTS]
        for name, node, _, value, other in PARTS:
            _, result = await server.write(name, other, Log(), OPTIONS)
            assert (name, result.state, result.after) == (name, "confirmed", other)
            [whole] = await server.read([node.lower()])
            assert whole.value != before[wholes.index(node.lower())]
            await server.write(name, value, Log(), OPTIONS)
        assert [reading.value for reading in await server.read(wholes)] == before


async def test_parts_that_are_not_there(made: Made) -> None:
    """Half of what was asked for is none of it; what does not fit the part is not sent."""
    sent = len(made.server.noted("WriteRequest"))
    async with opcua.open_server(made.connection()) as server:
        readings = await server.read([name for name, *_ in NO_PARTS])
        assert [(r.quality, r.value) for r in readings] == [("bad", None)] * 3
        assert "2 values where 9 were asked for" in readings[1].reason
        for name, value in (
            ("beyond", 1),
            ("partly", [1] * 9),
            ("none", 1),
            ("two", [1]),
            ("two", 1),
            ("one", [1]),
            ("one", 70_000),
        ):
            with pytest.raises((errors.DeviceRefused, errors.WriteRefused)):
                await server.write(name, value, Log(), OPTIONS)
    assert len(made.server.noted("WriteRequest")) == sent


async def test_values_that_take_many_chunks(made: Made) -> None:
    """160 kB in one value, in the clear and encrypted, there and back."""
    values = [number + 0.5 for number in range(20_000)]
    for connection in (made.connection(), await made.secured()):
        async with opcua.open_server(connection) as server:
            [reading] = await server.read(["long"])
            assert reading.value == values
            for wanted in (values[::-1], values):
                _, result = await server.write("long", wanted, Log(), OPTIONS)
                assert result.state == "confirmed"


async def test_what_does_not_fit_is_not_sent(made: Made) -> None:
    """Wrong types and numbers out of range are refused here, or by the server."""
    before = len(made.server.noted("WriteRequest"))
    async with opcua.open_server(made.connection()) as server:
        for name, value in (
            ("int16", 40_000),
            ("uint16", -1),
            ("int32", 1.5),
            ("boolean", 1),
            ("string", 5),
            ("uint16s", [1, 65536]),
            ("guid", "no guid"),
        ):
            with pytest.raises(errors.DeviceRefused):
                await server.write(name, value, Log(), OPTIONS)
    assert len(made.server.noted("WriteRequest")) == before


async def test_qualities(made: Made) -> None:
    """Good, uncertain and bad are kept, with the server's name for it; bad has no value."""
    async with opcua.open_server(made.connection()) as server:
        names = ["localoverride", "uncertain", "sensorfailure", "waiting", "notthere"]
        found = [(r.quality, r.value, r.reason) for r in await server.read(names)]
    assert found[0] == ("good", 7.5, "")
    assert found[1] == ("uncertain", 7.5, "UncertainLastUsableValue")
    assert found[2:] == [
        ("bad", None, "BadSensorFailure"),
        ("bad", None, "BadWaitingForInitialData"),
        ("bad", None, "BadNodeIdUnknown"),
    ]


async def test_times_are_the_servers(made: Made) -> None:
    """When the value was set there, and when it came here."""
    async with opcua.open_server(made.connection()) as server:
        await server.write("double", 0.25, Log(), OPTIONS)
        [reading] = await server.read(["double"])
        await server.write("double", 0.1, Log(), OPTIONS)
    assert reading.source_at is not None
    assert abs(datetime.now(UTC) - reading.source_at) < timedelta(minutes=5)
    assert reading.source_at <= reading.received_at + timedelta(seconds=5)


async def test_the_servers_limits_are_kept(made: Made) -> None:
    """It reads 7 nodes, browses 3 and watches 5 at a time: each value is that of its tag."""
    before = len(made.server.noted())
    async with opcua.open_server(made.connection()) as server:
        names = [f"n{number}" for number in reversed(range(40))]
        assert [r.value for r in await server.read(names)] == list(reversed(range(40)))
        watched: dict[str, Any] = {}
        async with contextlib.aclosing(server.changes(names, timedelta(seconds=0.2))) as changes:
            while len(watched) < len(names):
                reading = await anext(changes)
                watched[reading.tag] = reading.value
        assert watched == {name: int(name[1:]) for name in names}
        browsed = {entry["name"]: entry for entry in await server.browse()}
    assert browsed["Cell/N39"] | {"value": 39} == {
        "node": f"nsu={NS};s=N39",
        "name": "Cell/N39",
        "class": "variable",
        "value": 39,
        "type": "Int32",
    }
    assert browsed["Cell/Scale"]["class"] == "method"
    assert {f"Cell/{name}" for name, _, _ in VALUES} <= set(browsed)
    asked = [line.split() for line in made.server.noted()[before:]]
    assert max(int(count) for kind, count in asked if kind == "ReadRequest") == 7
    assert max(int(count) for kind, count in asked if kind == "BrowseRequest") <= 3


async def test_structures(made: Made) -> None:
    """Of a type of the server's own: read by its fields, and changed in some of them."""
    log = Log()
    async with opcua.open_server(made.connection()) as server:
        single, several = await server.read(["recipe", "recipes"])
        cola = {
            "Title": "cola",
            "Temperature": 64.09,
            "Steps": [3, 1, 2],
            "Mode": 1,
            "Limits": {"Low": 0.1, "High": 90},
        }
        assert single.value == cola
        assert [row["Title"] for row in several.value] == ["cola", "lemon"]  # type: ignore[index,union-attr]
        changed = {
            "Title": "lime",
            "Temperature": 65.3,
            "Steps": [1, 2, 3, 4],
            "Mode": 2,
            "Limits": {"Low": 0.2, "High": 95},
        }
        _, result = await server.write("recipe", changed, Log(), OPTIONS)
        assert result.state == "confirmed"
        [after] = await server.read(["recipe"])
        assert after.value == cola | changed
        for wrong, why in (
            ({"Colour": "red"}, "has no Colour"),
            ({"Steps": [2**40]}, "does not fit into Int32"),
            ({"Steps": 5}, "Steps is an array"),
            ({"Title": ["a"]}, "Title is no array"),
            ({"Mode": 7}, "7 is none of"),
            ({"Mode": "Auto"}, "no whole number"),
            ({"Limits": {"High": 40_000}}, "does not fit into Int16"),
            ({"Limits": 5}, "a structure is written"),
        ):
            with pytest.raises(errors.DeviceRefused, match=why):
                await server.write("recipe", wrong, log, OPTIONS)
        assert {result.state for result in log.concluded} == {"refused"}
        await server.write("recipe", cola, Log(), OPTIONS)


async def test_two_servers_with_other_structures_of_one_name(made: Made, tmp_path: Path) -> None:
    """The same type, the same node, and other fields: each server's values are read by its own."""
    low = '<Field Name="Low" DataType="i=10" />'
    high = '<Field Name="High" DataType="i=4" />'
    text = (other_makes.NODE_FOLDER / "recipe.xml").read_text("utf-8")
    assert text.index(low) < text.index(high)
    nodeset = tmp_path / "recipe.xml"
    nodeset.write_text(text.replace(low, "@").replace(high, low).replace("@", high), "utf-8")
    port = free_port()
    with other_makes.running(other_makes.node_opcua(port, tmp_path, nodeset)):
        other = made.connection(url=f"opc.tcp://127.0.0.1:{port}")
        async with (
            opcua.open_server(made.connection()) as first,
            opcua.open_server(other) as second,
        ):
            for server, held in ((first, 0.1), (second, 0.1), (first, 0.2)):
                [reading] = await server.read(["recipe"])
                assert isinstance(reading.value, dict)
                assert reading.value["Limits"] == {"Low": held, "High": 90}
                changed = {"Limits": {"Low": 0.2 if held == 0.1 else 0.1}}
                _, result = await server.write("recipe", changed, Log(), OPTIONS)
                assert result.state == "confirmed"
            both = await asyncio.gather(first.read(["recipe"]), second.read(["recipe"]))
        found = [reading.value["Limits"] for [reading] in both]  # type: ignore[index,call-overload]
        assert found == [{"Low": 0.1, "High": 90}, {"Low": 0.2, "High": 90}]


async def test_methods(made: Made) -> None:
    """Arguments have the types that the method wants; its status is kept."""
    cell = f"nsu={NS};s=Cell"

    async def call(name: str, *arguments: Any) -> list[Any]:
        method = f"nsu={NS};s={name}"
        given = await server.prepare(method, arguments)
        return await server.call(cell, method, given, repeatable=False)

    async with opcua.open_server(made.connection()) as server:
        assert await call("Scale", 100, 0.5) == [50.0]
        assert await call("Sum", [1, 2.5, 3]) == [6.5]
        assert await call("Nothing") == []
        for given in (True, 7, 0.25, "text", [1, 2]):
            assert await call("Echo", given) == [given]
        with pytest.raises(errors.BadInput, match="no type of its own"):
            await call("Echo", {})
        with pytest.raises(errors.SmartOpsError, match="BadInvalidState"):
            await call("Refuse")
        with pytest.raises(errors.BadInput, match="takes the arguments value, factor"):
            await call("Scale", 1)
        with pytest.raises(errors.BadInput, match="fit"):
            await call("Scale", 40_000, 0.5)
        with pytest.raises(errors.DeviceRefused):
            await call("NotThere")
    called = [len(made.server.noted(name)) for name in ("Scale", "Sum", "Nothing", "Refuse")]
    assert called == [1, 1, 1, 1]


async def test_writes_that_the_server_does_not_take(made: Made) -> None:
    """Refused is refused, and a value that does not stick is a mismatch."""
    log = Log()
    quick = WriteOptions(verify_within=timedelta(seconds=0.2))
    async with opcua.open_server(made.connection()) as server:
        with pytest.raises(errors.DeviceRefused, match="BadNotWritable"):
            await server.write("readonly", 6, log, quick)
        with pytest.raises(errors.DeviceRefused, match="BadOutOfRange"):
            await server.write("limited", 101, log, quick)
        assert (await server.write("limited", 99, log, quick))[1].state == "confirmed"
        with pytest.raises(errors.WriteMismatch, match="wrote 111, but it holds 120"):
            await server.write("stuck", 111, log, quick)
        with pytest.raises(errors.DeviceRefused, match="BadNodeIdUnknown"):
            await server.write("notthere", 1, log, quick)
    states = [result.state for result in log.concluded]
    assert states == ["refused", "refused", "confirmed", "mismatch", "refused"]


# --- security ---------------------------------------------------------------------------------


async def test_each_side_has_to_trust_the_other(made: Made) -> None:
    """An unknown server is refused here, and we are refused there until somebody trusts us."""
    login = {"username": "operator", "password": "s3cret-w0rd"}
    connection = made.connection(policy="Basic256Sha256", **login)
    with pytest.raises(errors.UntrustedServer, match="nobody has trusted"):
        async with opcua.open_server(connection):
            pass
    offered = await opcua_session.offered_certificate(connection)
    opcua_trust.trust(made.url, offered)
    with pytest.raises(errors.DeviceUnreachable) as refused:  # it closes the connection, no more
        async with opcua.open_server(connection):
            pass
    assert "do not trust our certificate" in refused.value.hint
    async with opcua.open_server(await made.secured(**login)) as server:
        assert (await server.read(["n7"]))[0].value == 7
    pinned = made.connection(policy="Basic256Sha256", pinned="00" * 32, **login)
    with pytest.raises(errors.UntrustedServer, match="another certificate"):
        async with opcua.open_server(pinned):
            pass


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
@pytest.mark.parametrize("mode", ["sign", "sign-and-encrypt"])
async def test_each_policy(made: Made, policy: Any, mode: Any) -> None:
    """Values and writes go through, as a user and as nobody."""
    connection = replace(await made.secured(), policy=policy, mode=mode)
    logins: tuple[dict[str, Any], ...] = ({}, {"username": "operator", "password": "s3cret-w0rd"})
    for login in logins:
        async with opcua.open_server(replace(connection, **login)) as server:
            _, result = await server.write("n11", 12, Log(), OPTIONS)
            assert (result.state, result.after) == ("confirmed", 12)
            await server.write("n11", 11, Log(), OPTIONS)


async def test_a_user_with_a_certificate(made: Made, tmp_path: Path) -> None:
    """Logs in when the server trusts it, and is refused before."""
    connection = await made.secured()
    certificate, key = other_makes.user_files(tmp_path)
    user = replace(connection, user_certificate=str(certificate), user_key=str(key))
    with pytest.raises(errors.AuthenticationFailed):
        async with opcua.open_server(user):
            pass
    made.trust("user", certificate)
    async with opcua.open_server(user) as server:
        assert (await server.read(["n7"]))[0].value == 7


async def test_a_wrong_password(made: Made) -> None:
    """Is a permanent error, on an encrypted channel and in the clear."""
    for connection in (await made.secured(), made.connection()):
        wrong = replace(connection, username="operator", password="wr0ng-w0rd")
        with pytest.raises(errors.AuthenticationFailed) as error:
            async with opcua.open_server(wrong):
                pass
        assert "wr0ng" not in str(error.value)


async def test_a_server_that_goes_and_comes_back(made: Made) -> None:
    """Its end is a transient error; started again, it has the certificate that is trusted."""
    connection = await made.secured()
    async with opcua.open_server(connection) as server:
        assert (await server.read(["n5"]))[0].value == 5
        made.server.kill()
        with pytest.raises(errors.TransientError):
            await server.read(["n5"])
    with pytest.raises(errors.DeviceUnreachable):
        async with opcua.open_server(connection):
            pass
    made.server.start()
    async with opcua.open_server(connection) as server:
        assert (await server.read(["n5"]))[0].value == 5
