"""Where an MQTT broker is, how to log in, and what a message is."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from smartops.drivers.quarantine import PATIENT, Patience

Version = Literal["5", "3.1.1"]
Qos = Literal[0, 1, 2]
Transport = Literal["tcp", "websockets"]


@dataclass(frozen=True)
class LastWill:
    """What the broker publishes for us when we are gone without a goodbye."""

    topic: str
    payload: str = ""
    qos: Qos = 1
    retain: bool = False
    delay: timedelta = timedelta()
    """How long it waits for us to come back first (MQTT 5)."""


@dataclass(frozen=True)
class Connection:
    """Where a broker is and how to log in."""

    name: str
    host: str
    port: int = 1883
    transport: Transport = "tcp"
    path: str = "/mqtt"
    """Of the address of a websocket."""
    version: Version = "5"
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca_file: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    cbor: bool = False
    """Whether messages hold CBOR that do not say what they hold."""
    timeout: timedelta = timedelta(seconds=5)
    session: str = ""
    """The name of a session that the broker keeps while we are away; empty: none is kept.

    Its messages have to be acknowledged: what is not, comes again.
    """
    keep_session: timedelta = timedelta(days=7)
    """How long it is kept (MQTT 5; with 3.1.1 the broker's settings say it)."""
    last_will: LastWill | None = None
    patience: Patience = PATIENT
    """How soon the broker is left alone when it does not answer."""

    @property
    def resource(self) -> str:
        """The broker; several steps may talk to it at the same time."""
        return f"mqtt://{self.host.lower()}:{self.port}"


@dataclass(frozen=True)
class Message:
    """A message that came. ``payload`` is JSON's value where it is JSON, else the text, or hex."""

    topic: str
    payload: Any
    qos: int
    retained: bool
    received_at: datetime
    correlation: bytes | None = None
    mid: int = 0
    """The message's number in this connection."""
    again: bool = False
    """Whether the broker says that it may have sent it before."""

    def as_json(self) -> dict[str, Any]:
        """Return the message as a JSON object."""
        return {
            "topic": self.topic,
            "payload": self.payload,
            "qos": self.qos,
            "retained": self.retained,
            "received_at": self.received_at.isoformat(),
        }


def tls_context(connection: Connection) -> ssl.SSLContext:
    """Return how the connection is secured. Raises OSError and ValueError for its files."""
    context = ssl.create_default_context(cafile=connection.ca_file)
    if connection.client_certificate:
        context.load_cert_chain(connection.client_certificate, connection.client_key)
    return context
