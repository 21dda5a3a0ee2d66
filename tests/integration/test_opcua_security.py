"""The OPC UA driver against a server that wants security and users, and has limits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from asyncua import ua
from asyncua.common.methods import uamethod
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import SimpleRoleRuleset, User, UserRole
from asyncua.server.server import Server
from asyncua.server.user_managers import UserManager
from cryptography.x509.oid import ExtendedKeyUsageOID
from pydantic import SecretStr, ValidationError

from blocks import OpcUaServer
from services import devices
from smartops import errors
from smartops.drivers import opcua, opcua_session, opcua_trust
from smartops.drivers.opcua_session import Connection
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.writing import WriteOptions
from tests.conftest import free_port
from tests.integration.test_modbus_driver import Log

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("home")]
NS = "urn:test:cell"
OPTIONS = WriteOptions(verify_within=timedelta(seconds=0.2))


def tag(name: str, node: str, **fields: Any) -> OpcTag:
    return OpcTag(name=name, node=f"nsu={NS};s={node}", **fields)


class Users(UserManager):
    """One operator."""

    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> User | None:
        if (username, password) == ("operator", "s3cret-w0rd"):
            return User(role=UserRole.User)
        return None


@dataclass
class Secure:
    """It, and how long its method was asked to take."""

    url: str
    server: Server
    calls: list[Any]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def secure(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secure]:
    """A server of every policy, that lets one user in and reads 7 nodes at a time."""
    folder = tmp_path_factory.mktemp("opcua")
    server = Server(user_manager=Users())
    await server.init()
    port = free_port()
    url = f"opc.tcp://127.0.0.1:{port}"
    server.set_endpoint(url)
    uri = "urn:test:server"
    await server.set_application_uri(uri)
    await setup_self_signed_certificate(
        folder / "key.pem",
        folder / "cert.der",
        uri,
        "127.0.0.1",
        [ExtendedKeyUsageOID.SERVER_AUTH],
        {},
    )
    await server.load_certificate(str(folder / "cert.der"))
    await server.load_private_key(folder / "key.pem")
    rules = SimpleRoleRuleset()  # type: ignore[no-untyped-call]
    server.set_security_policy(
        [getattr(ua.SecurityPolicyType, name) for name in SECURED], permission_ruleset=rules
    )
    index = await server.register_namespace(NS)

    def node_id(name: str) -> ua.NodeId:
        return ua.NodeId.from_string(f"ns={index};s={name}")

    cell = await server.nodes.objects.add_object(node_id("Cell"), f"{index}:Cell")
    for name, value, kind in (
        ("Flags", [True, False], ua.VariantType.Boolean),
        ("Curve", [1.5, 2.5], ua.VariantType.Float),
        ("Big", 2**63, ua.VariantType.UInt64),
        ("When", datetime(2026, 1, 2, tzinfo=UTC), ua.VariantType.DateTime),
        ("Name", ua.LocalizedText("Zelle"), ua.VariantType.LocalizedText),
        ("NotANumber", float("nan"), ua.VariantType.Double),
        *((f"N{number}", number, ua.VariantType.Int32) for number in range(40)),
    ):
        node = await cell.add_variable(node_id(name), f"{index}:{name}", value, varianttype=kind)
        await node.set_writable()
    calls: list[Any] = []

    @uamethod
    async def slow(_parent: Any, seconds: float) -> float:
        calls.append(seconds)
        await asyncio.sleep(seconds)
        return seconds

    await cell.add_method(node_id("Slow"), f"{index}:Slow", slow, [ua.VariantType.Double], [])
    limit = server.get_node(ua.NodeId(ua.Int32(11705)))
    await limit.write_value(ua.Variant(7, ua.VariantType.UInt32))
    async with server:
        yield Secure(url, server, calls)


SECURED = (
    "Basic256Sha256_Sign",
    "Basic256Sha256_SignAndEncrypt",
    "Aes128Sha256RsaOaep_Sign",
    "Aes128Sha256RsaOaep_SignAndEncrypt",
    "Aes256Sha256RsaPss_Sign",
    "Aes256Sha256RsaPss_SignAndEncrypt",
)
TAGS = (
    tag("flags", "Flags", allow_write=True),
    tag("curve", "Curve", allow_write=True),
    tag("big", "Big", allow_write=True),
    tag("when", "When", allow_write=True),
    tag("label", "Name", allow_write=True),
    tag("nan", "NotANumber"),
    *(tag(f"n{number}", f"N{number}") for number in range(40)),
)


def cell(secure: Secure, **changes: Any) -> Connection:
    connection = Connection(
        "cell",
        secure.url,
        TAGS,
        policy="Basic256Sha256",
        username="operator",
        password="s3cret-w0rd",
    )
    return replace(connection, **changes)


async def trusted(secure: Secure, **changes: Any) -> Connection:
    connection = cell(secure, **changes)
    opcua_trust.trust(secure.url, await opcua_session.offered_certificate(connection))
    return connection


async def test_an_unknown_server_is_refused(secure: Secure) -> None:
    """Until a person trusts its certificate, or it is pinned; the password is not sent before."""
    with pytest.raises(errors.UntrustedServer, match="nobody has trusted") as error:
        async with opcua.open_server(cell(secure)):
            pass
    assert "device trust cell" in error.value.hint
    shown = opcua_trust.fingerprint(await opcua_session.offered_certificate(cell(secure)))
    async with opcua.open_server(cell(secure, pinned=shown.upper())) as server:
        assert (await server.read(["n3"]))[0].value == 3
    with pytest.raises(errors.UntrustedServer, match="another certificate"):
        async with opcua.open_server(cell(secure, pinned="00" * 32)):
            pass


async def test_a_server_with_another_key_is_refused(secure: Secure, tmp_path: Path) -> None:
    """What was trusted is not what answers: nothing goes through."""
    await setup_self_signed_certificate(
        tmp_path / "k.pem",
        tmp_path / "c.der",
        "urn:other",
        "h",
        [ExtendedKeyUsageOID.SERVER_AUTH],
        {},
    )
    opcua_trust.trust(secure.url, (tmp_path / "c.der").read_bytes())
    with pytest.raises((errors.UntrustedServer, errors.TransientError)):
        async with opcua.open_server(cell(secure, timeout=timedelta(seconds=1))):
            pass


@pytest.mark.parametrize("policy", ["Basic256Sha256", "Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
@pytest.mark.parametrize("mode", ["sign", "sign-and-encrypt"])
async def test_each_policy(secure: Secure, policy: Any, mode: Any) -> None:
    """With a user and our own certificate, which stays the same."""
    connection = await trusted(secure, policy=policy, mode=mode)
    before = opcua_trust.own_certificate()[0].read_bytes()
    async with opcua.open_server(connection) as server:
        assert (await server.read(["n7"]))[0].value == 7
    assert opcua_trust.own_certificate()[0].read_bytes() == before
    assert (opcua_trust.own_certificate()[1].stat().st_mode & 0o777) == 0o600


async def test_a_wrong_password(secure: Secure) -> None:
    """Is a permanent error, and does not show the password."""
    connection = await trusted(secure, password="wr0ng-w0rd")
    with pytest.raises(errors.AuthenticationFailed) as error:
        async with opcua.open_server(connection):
            pass
    assert "wr0ng" not in f"{error.value}{connection!r}"


async def test_more_nodes_than_the_server_allows_at_once(secure: Secure) -> None:
    """Are asked for in parts; each value is that of its tag."""
    connection = await trusted(secure)
    async with opcua.open_server(connection) as server:
        names = [f"n{number}" for number in reversed(range(40))]
        assert [r.value for r in await server.read(names)] == list(reversed(range(40)))


async def test_types(secure: Secure) -> None:
    """Arrays, 64 bits, times, texts; what is no number is no value."""
    connection = await trusted(secure)
    async with opcua.open_server(connection) as server:
        found = {r.tag: r for r in await server.read([tag.name for tag in TAGS[:6]])}
        assert found["flags"].value == [True, False]
        assert found["big"].value == 2**63
        assert found["when"].value == "2026-01-02T00:00:00+00:00"
        assert found["label"].value == "Zelle"
        assert (found["nan"].quality, found["nan"].value) == ("bad", None)
        for name, value in (
            ("flags", [False, True]),
            ("curve", [0.1, 3.0]),
            ("big", 2**64 - 1),
            ("when", "2026-05-06T07:08:09+00:00"),
            ("label", "Cell"),
        ):
            _, result = await server.write(name, value, Log(), OPTIONS)
            assert (name, result.after) == (name, value)


async def test_a_method_without_an_answer_is_unknown(secure: Secure) -> None:
    """It is not called again; where the job says that it may be, the error is transient."""
    connection = await trusted(secure)
    node, method = f"nsu={NS};s=Cell", f"nsu={NS};s=Slow"
    for repeatable, expected in ((False, errors.UnknownOutcome), (True, errors.DeviceTimeout)):
        before = len(secure.calls)
        with contextlib.suppress(errors.DeviceUnreachable):
            async with opcua.open_server(connection) as server:
                arguments = await server.prepare(method, [1.5])
                protocol = server._client.uaclient.protocol
                assert protocol is not None
                protocol.timeout = 0.5  # not before: encryption takes its time
                with pytest.raises(expected):
                    await server.call(node, method, arguments, repeatable=repeatable)
        assert len(secure.calls) == before + 1


async def test_trusting_a_server(secure: Secure) -> None:
    """What a person trusts is used from then on; a block without security has nothing to trust."""
    block = OpcUaServer(
        url=secure.url,
        security_policy="Basic256Sha256",
        username="operator",
        password=SecretStr("s3cret-w0rd"),
        tags=[TAGS[-1]],
    )
    with pytest.raises(errors.UntrustedServer):
        await devices.check(block)
    devices.trust(block, await devices.offered_certificate(block))
    [reading] = (await devices.check(block)).readings
    assert (reading.tag, reading.value) == ("n39", 39)


@pytest.mark.parametrize(
    "fields",
    [
        {"username": "u"},
        {"username": "u", "password": "p"},
        {"username": "u", "password": "p", "security_policy": "Basic256Sha256",
         "security_mode": "sign"},
        {"user_certificate": "c.der"},
        {"server_fingerprint": "abc", "security_policy": "Basic256Sha256"},
        {"server_fingerprint": "00" * 32},
        {"security_mode": "sign"},
        {"url": "http://h"},
        {"url": "opc.tcp://user:pw@h"},
    ],
)  # fmt: skip
async def test_a_connection_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    """A password in the clear has to be allowed in words; nothing is pinned without a policy."""
    with pytest.raises(ValidationError):
        OpcUaServer.model_validate({"url": "opc.tcp://h:4840", **fields})
    clear = {"username": "u", "password": "p", "password_in_the_clear": True}
    assert OpcUaServer.model_validate({"url": "opc.tcp://h:4840", **clear}).username == "u"
