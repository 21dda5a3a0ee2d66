"""Secured connections that cannot be made, over a wire that fails or to a server that is wrong."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
import trustme
from asyncua import ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.server.server import Server
from cryptography.x509.oid import ExtendedKeyUsageOID

from scripts.fault_table import SECURED
from smartops.drivers import mqtt, opcua, opcua_session, opcua_trust
from smartops.drivers.opcua_tags import OpcTag
from smartops.settings import get_settings
from tests import faulty_wire, mosquitto
from tests.conftest import free_port
from tests.fault_cells import Ends, all_of, cells, check, ended
from tests.faulty_wire import wire_to
from tests.mosquitto import Broker
from tests.websocket_gateway import gateway_to

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMIT_S = 3.0
LATE_S = 12.0
"""How long an answer takes that comes too slowly."""
SLACK_S = 15.0
CELLS = cells(SECURED)
TAG = OpcTag(name="mode", node="i=2259")


@dataclass
class Places:
    """Where the servers are."""

    broker: Broker
    websocket: int
    expired: int
    ca_file: str
    """Of whom the expired certificate is."""
    cell: int
    certificate: bytes
    open_cell: int
    """A server without encryption."""


@contextmanager
def own_home(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMARTOPS_HOME", str(folder))
        get_settings.cache_clear()
        yield
    get_settings.cache_clear()


async def cell(folder: Path, policy: ua.SecurityPolicyType) -> tuple[Server, int]:
    server, port = Server(), free_port()
    await server.init()
    server.set_endpoint(f"opc.tcp://127.0.0.1:{port}")
    await server.set_application_uri("urn:test:server")
    if policy is not ua.SecurityPolicyType.NoSecurity:
        certificate, key = folder / "cell.der", folder / "cell.pem"
        usage = [ExtendedKeyUsageOID.SERVER_AUTH]
        await setup_self_signed_certificate(
            key, certificate, "urn:test:server", "127.0.0.1", usage, {}
        )
        await server.load_certificate(str(certificate))
        await server.load_private_key(key)
    server.set_security_policy([policy])
    return server, port


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def places(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Places]:
    folder = tmp_path_factory.mktemp("secured")
    ca = trustme.CA()
    ca_file = folder / "other-ca.pem"
    ca.cert_pem.write_to_path(ca_file)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    expired = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1", not_after=yesterday).configure_cert(expired)
    async with AsyncExitStack() as stack:
        stack.enter_context(own_home(tmp_path_factory.mktemp("home")))
        broker = stack.enter_context(mosquitto.running(tmp_path_factory.mktemp("mosquitto")))
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(broker.folder / "server.pem", broker.folder / "server.key")
        gateway = await stack.enter_async_context(gateway_to(broker.port, tls))
        old = await stack.enter_async_context(gateway_to(broker.port, expired))
        server, port = await cell(folder, ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt)
        await stack.enter_async_context(server)
        plain, plain_port = await cell(folder, ua.SecurityPolicyType.NoSecurity)
        await stack.enter_async_context(plain)
        certificate = (folder / "cell.der").read_bytes()
        yield Places(broker, gateway.port, old.port, str(ca_file), port, certificate, plain_port)


def limit(fault: str, column: str) -> timedelta:
    """Return the timeout: short only where it has to run out, as all cells are there at once."""
    runs_out = "DeviceTimeout" if column == "OPC UA" else "DeviceUnreachable"
    return timedelta(seconds=LIMIT_S if SECURED.end(fault, column) == runs_out else 30)


async def over_tls(places: Places, fault: str, column: str) -> str:
    """Publish one message."""
    broker, web = places.broker, column == "websocket"
    target = places.websocket if web else broker.tls
    if fault == "in the clear":
        target = broker.port
    if fault == "expired":
        target = places.expired
    certificate, key = broker.client_files
    async with wire_to(target, LATE_S) as wire:
        connection = mqtt.Connection(
            "bus",
            "localhost" if fault == "another name" else "127.0.0.1",
            wire.port,
            "websockets" if web else "tcp",
            tls=True,
            ca_file=places.ca_file if fault == "expired" else broker.ca_file,
            client_certificate=certificate,
            client_key=key,
            timeout=limit(fault, column),
        )
        if fault == "unknown":
            connection = replace(connection, ca_file=None)
        wire.fault = fault if fault in faulty_wire.FAULTS else ""
        async with mqtt.open_broker(connection) as client:
            await client.publish(f"secured/{column}", b"1")
            return "value"


async def by_opc_ua(places: Places, fault: str) -> str:
    """Read one value."""
    target = places.open_cell if fault == "in the clear" else places.cell
    async with wire_to(target, LATE_S) as wire:
        connection = opcua_session.Connection(
            "cell",
            f"opc.tcp://127.0.0.1:{wire.port}",
            (TAG,),
            policy="Basic256Sha256",
            pinned="00" * 32 if fault == "another's" else "",
            timeout=limit(fault, "OPC UA"),
        )
        if fault in {"none", *faulty_wire.FAULTS}:
            opcua_trust.trust(connection.url, places.certificate)
        wire.fault = fault if fault in faulty_wire.FAULTS else ""
        async with opcua.open_server(connection) as server:
            [reading] = await server.read(["mode"])
            return "value" if reading.value == 0 else f"{reading}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(places: Places) -> Ends:
    """The cells are run side by side, as most of them wait."""

    async def run(fault: str, column: str) -> str:
        opc_ua = column == "OPC UA"
        made = by_opc_ua(places, fault) if opc_ua else over_tls(places, fault, column)
        return await ended(made, limit(fault, column).total_seconds() + SLACK_S)

    return await all_of(run, CELLS)


@pytest.mark.parametrize(("fault", "column"), CELLS)
async def test_each_fault_comes_to_what_the_table_says(ends: Ends, fault: str, column: str) -> None:
    """Within its time."""
    check(SECURED, ends, (fault, column))


async def test_nothing_is_left_behind(ends: Ends) -> None:
    """No thread of a connection that could not be made."""
    async with asyncio.timeout(30):
        while any("paho" in thread.name for thread in threading.enumerate()):
            await asyncio.sleep(0.05)
