"""OPC UA over a wire that fails, and with a server that fails: what each fault comes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.common.callback import CallbackType
from asyncua.common.methods import uamethod
from asyncua.server.server import Server
from asyncua.ua.status_codes import StatusCodes
from asyncua.ua.uaerrors import UaStatusCodeError

from scripts.fault_table import OPCUA
from smartops.drivers import opcua
from smartops.drivers.opcua_session import Connection
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.writing import WriteOptions
from smartops.settings import get_settings
from tests import faulty_wire
from tests.conftest import free_port
from tests.fault_cells import Ends, all_of, cells, check, ended
from tests.faulty_wire import Wire, wire_to
from tests.integration.test_modbus_driver import Log

pytestmark = pytest.mark.asyncio(loop_scope="module")
NS = "urn:test:faults"
LIMIT_S = 1.5
LATE_S = 2.0
PATIENT_S = 60.0
SLACK_S = 5.0
"""How much longer a call may take on a loaded machine."""
OPTIONS = WriteOptions(verify_within=timedelta(seconds=0.2))
CELLS = cells(OPCUA)
STATUS = {
    fault: ua.StatusCode(ua.UInt32(code))
    for fault, code in (
        ("refusing", StatusCodes.BadUserAccessDenied),
        ("failing", StatusCodes.BadUnexpectedError),
        ("doing nothing", StatusCodes.BadUnexpectedError),
        ("uncertain", StatusCodes.UncertainLastUsableValue),
    )
}


@dataclass
class Device:
    """A server with a variable for each cell, and what it was made to do."""

    port: int
    server: Server
    written: list[tuple[str, Any]] = field(default_factory=list)
    called: list[str] = field(default_factory=list)

    async def before_read(self, event: Any, _service: Any) -> None:
        for name, _ in _asked(event.request_params.NodesToRead):
            await self._fail("read", name)

    async def after_read(self, event: Any, _service: Any) -> None:
        for number, (name, _) in enumerate(_asked(event.request_params.NodesToRead)):
            fault = name.removesuffix(" read")
            if fault in STATUS and name != fault:
                held = event.response_params[number]
                status = STATUS[fault]
                event.response_params[number] = replace(held, StatusCode=status)

    async def before_write(self, event: Any, _service: Any) -> None:
        if event.is_external:
            for name, item in _asked(event.request_params.NodesToWrite):
                if item.Value.Value.Value == 2:
                    self.written.append((name, 2))
                    await self._fail("write", name)
                    if name.startswith(("refusing", "doing nothing")):
                        item.Value = ua.DataValue(ua.Variant(1, ua.VariantType.Int32))

    async def after_write(self, event: Any, _service: Any) -> None:
        for number, (name, _) in enumerate(_asked(event.request_params.NodesToWrite)):
            fault = name.removesuffix(" write")
            if fault in STATUS and (name, 2) in self.written and event.is_external:
                event.response_params[number] = STATUS[fault]

    async def _fail(self, what: str, name: str) -> None:
        if name == f"busy {what}":
            raise UaStatusCodeError(StatusCodes.BadServerHalted)  # type: ignore[no-untyped-call]
        if name == f"taking long {what}":
            await asyncio.sleep(LATE_S)

    @uamethod
    async def pulse(self, _parent: Any, name: str) -> Any:
        """Do something once, and say so as the fault wants it."""
        if name == "refusing":
            return STATUS[name]
        self.called.append(name)
        if name == "taking long":
            await asyncio.sleep(LATE_S)
        status = STATUS.get(name, ua.StatusCode())
        return ua.CallMethodResult(StatusCode=status, OutputArguments=[5])


def _asked(items: Any) -> list[tuple[str, Any]]:
    return [(str(item.NodeId.Identifier), item) for item in items]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def device(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Device]:
    server = Server()
    await server.init()
    found = Device(free_port(), server)
    server.set_endpoint(f"opc.tcp://127.0.0.1:{found.port}")
    server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
    index = await server.register_namespace(NS)

    def node_id(name: str) -> ua.NodeId:
        return ua.NodeId.from_string(f"ns={index};s={name}")

    cell = await server.nodes.objects.add_object(node_id("Cell"), f"{index}:Cell")
    for name, value in [("first", 11), *((" ".join(names), 1) for names in CELLS)]:
        node = await cell.add_variable(
            node_id(name), f"{index}:{name}", value, varianttype=ua.VariantType.Int32
        )
        await node.set_writable()
    text = [ua.VariantType.String]
    await cell.add_method(node_id("Pulse"), f"{index}:Pulse", found.pulse, text, [])
    server.subscribe_server_callback(CallbackType.PreRead, found.before_read)
    server.subscribe_server_callback(CallbackType.PostRead, found.after_read)
    server.subscribe_server_callback(CallbackType.PreWrite, found.before_write)
    server.subscribe_server_callback(CallbackType.PostWrite, found.after_write)
    async with server:
        yield found


def renumbered(answer: bytes) -> bytes:
    """Return a message as the answer to a request that nobody has made."""
    return answer[:20] + (9999).to_bytes(4, "little") + answer[24:]


@dataclass
class Trial:
    """One cell: an open server at the end of a wire, about to fail."""

    device: Device
    fault: str
    column: str
    wire: Wire
    connection: Connection
    server: opcua.OpcUaDriver
    limit_s: float = PATIENT_S

    def begin(self) -> None:
        """Begin to fail, and to be in a hurry where time has to run out."""
        self.wire.fault = self.fault if self.fault in faulty_wire.FAULTS else ""
        end = OPCUA.end(self.fault, self.column)
        if end in {"DeviceTimeout", "UnknownOutcome"} or self.fault == "taking long":
            protocol = self.server._client.uaclient.protocol
            assert protocol is not None
            self.limit_s = protocol.timeout = LIMIT_S

    async def value(self, name: str) -> str:
        [reading] = await self.server.read([name])
        assert (reading.value is None) == (reading.quality == "bad")
        assert reading.value in {None, 11 if name == "first" else 1}
        return "value" if reading.quality == "good" else reading.quality

    async def read(self, name: str) -> str:
        """Whatever it comes to, the next read gives no other's value."""
        self.begin()
        end = await ended(self.value(name), self.limit_s + SLACK_S)
        if self.fault != "flapping":
            self.wire.fault = ""
        after = await ended(self.value("first"), self.limit_s + SLACK_S)
        assert after in {"value", "DeviceTimeout", "DeviceUnreachable"}
        return end

    async def write(self, name: str) -> str:
        """It is sent once, and what is called confirmed or refused is so."""
        log, sent = Log(), self.server.send
        await self.server.send(self.server.tag(name), 1)  # its type is known from then on

        async def send(tag: Any, value: Any) -> None:
            self.begin()  # what comes before the write goes well
            await sent(tag, value)

        self.server.send = send  # type: ignore[method-assign]

        async def state() -> str:
            _, result = await self.server.write(name, 2, log, OPTIONS)
            return result.state

        hurried = OPCUA.end(self.fault, "write") == "UnknownOutcome"
        end = await ended(state(), 2 * (LIMIT_S if hurried else PATIENT_S) + SLACK_S)
        [concluded] = log.concluded
        states = {"UnknownOutcome": "unknown", "DeviceRefused": "refused"}
        assert concluded.state == states.get(end, end)
        if end == "confirmed":
            assert await self.held() == 2
        if end == "DeviceRefused":
            assert await self.held() == 1
        return end

    async def call(self, _name: str) -> str:
        """It is called once at the most."""
        node, method = f"nsu={NS};s=Cell", f"nsu={NS};s=Pulse"
        arguments = await self.server.prepare(method, [self.fault])
        self.begin()

        async def found() -> str:
            results = await self.server.call(node, method, arguments, repeatable=False)
            assert results == [5]
            return "value"

        return await ended(found(), self.limit_s + SLACK_S)

    async def held(self) -> Any:
        """Return what the server holds of this cell's variable."""
        index = await self.device.server.get_namespace_index(NS)
        node = self.device.server.get_node(f"ns={index};s={self.connection.name}")
        return await node.read_value()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(device: Device, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    """How each cell ends; they are run side by side, as most of them wait."""
    gate = asyncio.Semaphore(4)

    async def run(fault: str, column: str) -> str:
        name = f"{fault} {column}"
        async with AsyncExitStack() as stack:
            wire = await stack.enter_async_context(wire_to(device.port, LATE_S, renumbered))
            tags = tuple(
                OpcTag(name=tag, node=f"nsu={NS};s={node}", allow_write=True)
                for tag, node in (("first", "first"), ("second", name))
            )
            connection = Connection(
                name, f"opc.tcp://127.0.0.1:{wire.port}", tags, timeout=timedelta(seconds=PATIENT_S)
            )
            async with AsyncExitStack() as session:
                async with gate:
                    opened = opcua.open_server(connection)
                    server = await session.enter_async_context(opened)
                trial = Trial(device, fault, column, wire, connection, server)
                end: str = await getattr(trial, column)("second")
            await come_back(trial)
        return end

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMARTOPS_HOME", str(tmp_path_factory.mktemp("home")))
        get_settings.cache_clear()
        yield await all_of(run, CELLS)
    get_settings.cache_clear()


async def come_back(trial: Trial) -> None:
    """Whatever it was, a new connection finds all as it should be."""
    if trial.fault != "flapping":
        trial.wire.fault = ""
    async with opcua.open_server(trial.connection) as trial.server:
        [first] = await trial.server.read(["first"])
    assert first.value == 11


@pytest.mark.parametrize(("fault", "column"), CELLS)
async def test_each_fault_comes_to_what_the_table_says(
    ends: Ends, device: Device, fault: str, column: str
) -> None:
    """Within the timeout; never to a wrong value, and never to a second write or call."""
    check(OPCUA, ends, (fault, column))
    assert device.written.count((f"{fault} {column}", 2)) <= 1
    assert device.called.count(fault) <= 1


async def test_what_is_done_was_done_once(ends: Ends, device: Device) -> None:
    """The server has seen what is called done, and not what never came to it."""
    for (fault, column), end in ends.items():
        did = device.called.count(fault) if column == "call" else None
        if column == "write":
            did = device.written.count((f"{fault} write", 2))
        if did is not None and end in {"confirmed", "value"}:
            assert did == 1, (fault, column)
        if did is not None and fault in {"request-lost", "request-reset"}:
            assert did == 0, (fault, column)
