"""OPC UA connections: who the server has to be, who we are to it, and what its errors mean.

The library trusts whoever answers, and fails with whatever its code runs into.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.crypto import security_policies as policies
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaStatusCodeError

from smartops import errors
from smartops.drivers import opcua_trust
from smartops.drivers.exchanges import exchange
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.quarantine import PATIENT, Patience

logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it reports what is handled here

Policy = Literal[
    "none",
    "Basic256Sha256",
    "Aes128Sha256RsaOaep",
    "Aes256Sha256RsaPss",
    "Basic256",
    "Basic128Rsa15",
]
Mode = Literal["sign", "sign-and-encrypt"]
_POLICIES: dict[str, type[policies.SecurityPolicy]] = {
    "Basic256Sha256": policies.SecurityPolicyBasic256Sha256,
    "Aes128Sha256RsaOaep": policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256Sha256RsaPss": policies.SecurityPolicyAes256Sha256RsaPss,
    "Basic256": policies.SecurityPolicyBasic256,
    "Basic128Rsa15": policies.SecurityPolicyBasic128Rsa15,
}
_MODES = {
    "sign": ua.MessageSecurityMode.Sign,
    "sign-and-encrypt": ua.MessageSecurityMode.SignAndEncrypt,
}
_REFUSED = frozenset(
    {
        "BadArgumentsMissing",
        "BadAttributeIdInvalid",
        "BadDataEncodingInvalid",
        "BadIndexRangeInvalid",
        "BadIndexRangeNoData",
        "BadInvalidArgument",
        "BadMethodInvalid",
        "BadNodeIdInvalid",
        "BadNodeIdUnknown",
        "BadNotExecutable",
        "BadNotImplemented",
        "BadNotSupported",
        "BadNotWritable",
        "BadOutOfRange",
        "BadSecurityModeInsufficient",
        "BadServiceUnsupported",
        "BadTooManyArguments",
        "BadTooManyOperations",
        "BadTypeMismatch",
        "BadUserAccessDenied",
        "BadWriteNotSupported",
    }
)
"""With these the server has surely not done what it was asked for."""
CONNECTING = "connecting"
AT_ONCE = 500
"""How many nodes one request asks for where the server gives no limit."""
_LOGIN = ("BadUserAccessDenied", "BadIdentityTokenRejected", "BadIdentityTokenInvalid")


@dataclass(frozen=True)
class Connection:
    """Where a server is, how it is to be known, and who we are to it."""

    name: str
    url: str
    tags: tuple[OpcTag, ...]
    policy: Policy = "none"
    mode: Mode = "sign-and-encrypt"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    user_certificate: str | None = None
    """Paths of the certificate (DER or PEM) and key (PEM) of a user who logs in with them."""
    user_key: str | None = None
    pinned: str = ""
    """The SHA-256 of the server's certificate, in hexadecimal digits, where it is pinned."""
    timeout: timedelta = timedelta(seconds=4)
    patience: Patience = PATIENT
    """How soon the server is left alone when it does not answer."""

    @property
    def resource(self) -> str:
        """What steps must not use at the same time."""
        parts = urlsplit(self.url)
        return f"opcua://{parts.hostname}:{parts.port or 4840}"


class LimitedClient(Client):
    """The library's client, whose own reads also keep to how many nodes a server allows at once."""

    read_at_once = AT_ONCE

    async def read_attributes(
        self, nodes: Iterable[Node], attr: AttributeIds = AttributeIds.Value
    ) -> list[ua.DataValue]:
        """Return an attribute of many nodes, in as few requests as the server allows."""
        wanted, found = list(nodes), list[ua.DataValue]()
        for start in range(0, len(wanted), self.read_at_once):
            part = wanted[start : start + self.read_at_once]
            found += await super().read_attributes(part, attr)
        return found


def _plain_client(connection: Connection) -> LimitedClient:
    timeout_s = connection.timeout.total_seconds()
    # The watchdog takes a server that is busy for longer than its interval for a dead one.
    client = LimitedClient(
        connection.url, timeout=timeout_s, watchdog_intervall=max(10.0, 2 * timeout_s)
    )
    client.application_uri = opcua_trust.application_uri()
    client.name = client.description = "SmartOps"
    return client


async def new_client(connection: Connection) -> LimitedClient:
    """Return a client that knows who the server has to be; it is not connected yet.

    Raises UntrustedServer, DeviceUnreachable, BadAnswer.
    """
    client = _plain_client(connection)
    if connection.username is not None:
        client.set_user(connection.username)
        client.set_password(connection.password or "")
    with edge(connection, CONNECTING):
        if connection.user_certificate and connection.user_key:
            await client.load_client_certificate(connection.user_certificate)
            await client.load_private_key(Path(connection.user_key))
        if connection.policy != "none":
            certificate, key = await asyncio.to_thread(opcua_trust.own_certificate)
            await client.set_security(
                _POLICIES[connection.policy],
                certificate,
                key,
                server_certificate=await _server_certificate(connection),
                mode=_MODES[connection.mode],
            )
    return client


async def _server_certificate(connection: Connection) -> bytes:
    """Return the certificate that the server has to prove to be its own."""
    trusted = opcua_trust.trusted_certificate(connection.url)
    pinned = connection.pinned.replace(":", "").lower()
    if trusted is not None and pinned in {"", opcua_trust.fingerprint(trusted)}:
        return trusted
    shown = await offered_certificate(connection)
    found = opcua_trust.fingerprint(shown)
    if pinned == found:
        return shown
    if pinned:
        raise errors.UntrustedServer(
            f"{connection.name}: the server at {connection.url} shows another certificate than the "
            f"pinned one: {opcua_trust.described(shown)}, SHA-256 {found}"
        )
    raise errors.UntrustedServer(
        f"{connection.name}: nobody has trusted the certificate of {connection.url}: "
        f"{opcua_trust.described(shown)}, SHA-256 {found}",
        hint=f"Compare it with the server's, then call `smartops device trust {connection.name}`.",
    )


async def offered_certificate(connection: Connection) -> bytes:
    """Return the certificate (DER) that whoever answers at the address shows; it proves nothing.

    Raises DeviceUnreachable, and BadAnswer where policy and mode are not offered.
    """
    with edge(connection, "asking for the endpoints"):
        endpoints = await _plain_client(connection).connect_and_get_server_endpoints()
    for endpoint in endpoints:
        wanted_policy = endpoint.SecurityPolicyUri == _POLICIES[connection.policy].URI
        if wanted_policy and endpoint.SecurityMode == _MODES[connection.mode]:
            return bytes(_first_certificate(endpoint.ServerCertificate))
    offered = sorted(
        f"{e.SecurityPolicyUri.rpartition('#')[2]} {e.SecurityMode.name}" for e in endpoints
    )
    raise errors.BadAnswer(
        f"{connection.name}: {connection.url} does not offer {connection.policy} "
        f"{connection.mode}; it offers {', '.join(offered)}"
    )


def _first_certificate(chain: bytes) -> bytes:
    """Return the first certificate of a chain in DER: a server may send its issuers behind it."""
    if chain[1] < 0x80:
        return chain[: chain[1] + 2]
    size = chain[1] & 0x7F
    return chain[: int.from_bytes(chain[2 : 2 + size], "big") + 2 + size]


@contextlib.contextmanager
def plain_cancel() -> Iterator[None]:
    """Make the library's own kind of cancellation the plain one: no time limit knows the other."""
    try:
        yield
    except asyncio.CancelledError as error:
        if type(error) is asyncio.CancelledError:
            raise
        raise asyncio.CancelledError from error


@contextlib.contextmanager
def edge(connection: Connection, what: str) -> Iterator[None]:
    """Turn the library's errors into ours, with what was being done."""
    text = f"{connection.name}: {what}"
    try:
        with (
            plain_cancel(),
            contextlib.nullcontext() if what == CONNECTING else exchange(connection.name),
        ):
            yield
    except errors.SmartOpsError:
        raise
    except UaStatusCodeError as error:
        status = ua.StatusCode(error.code)
        if status.name in _LOGIN:
            raise errors.AuthenticationFailed(f"{text}: {status.name}") from error
        if status.name.startswith(("BadCertificate", "BadSecurity")):
            raise errors.UntrustedServer(f"{text}: {status.name}: {status.doc}") from error
        raise refusal(status, text) from error
    except AssertionError as error:  # what the library makes of a refused secure channel
        raise errors.UntrustedServer(
            f"{text}: the server refuses the secure channel",
            hint="Check its list of trusted certificates, the security policy and the mode.",
        ) from error
    except TimeoutError as error:
        raise errors.DeviceTimeout(f"{text}: no answer") from error
    except (OSError, ConnectionError) as error:
        raise errors.DeviceUnreachable(
            f"{text}: {str(error) or 'the connection was lost'}",
            hint=_hint(connection, error, what),
        ) from error
    except Exception as error:  # whatever its code runs into: it must not leave this module
        raise errors.BadAnswer(f"{text}: {type(error).__name__}: {error}") from error


def _hint(connection: Connection, error: OSError, what: str) -> str:
    """Return what to look at when a server drops a secured connection that is being made."""
    closed = not isinstance(error, ConnectionRefusedError) and error.errno is None
    if not (closed and what == CONNECTING and connection.policy != "none"):
        return ""
    return (
        "Some servers do so when they do not trust our certificate, or do not offer the policy and "
        "mode: look at the certificates that it refused."
    )


def refusal(status: ua.StatusCode, text: str) -> errors.SmartOpsError:
    """Return the error for a bad status: a refusal, or something that may pass."""
    said = f"{text}: {status.name}"
    if status.name in _REFUSED:
        return errors.DeviceRefused(said)
    if status.name in {"BadTimeout", "BadRequestTimeout"}:
        return errors.DeviceTimeout(said)
    return errors.DeviceBusy(said)
