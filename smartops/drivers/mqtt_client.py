"""The MQTT library's client, which hears what the library itself passes over."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from smartops import errors
from smartops.drivers.mqtt_connection import Connection
from smartops.drivers.mqtt_wire import WiredClient

_UNACKNOWLEDGED = 100
"""How many messages of a kept session come before the first is acknowledged."""
_REASON, _FAILURE = 2, 0x80
"""Where a PUBREC has its reason, and from which on that is a failure."""


class Client(WiredClient):
    """The library's client, which hears all that a broker says to what was published."""

    heard: Callable[[], None] | None = None
    """Called when the broker answers a ping: all that was sent before has come to it."""

    def _handle_pubrec(self) -> MQTTErrorCode:
        packet = bytes(self._in_packet["packet"])
        if self._protocol != paho.MQTTv5 or len(packet) <= _REASON or packet[_REASON] < _FAILURE:
            return super()._handle_pubrec()
        mid = int.from_bytes(packet[:_REASON], "big")
        with self._out_message_mutex:
            self._out_messages.pop(mid, None)
        reason = ReasonCode(PacketTypes.PUBREC, identifier=packet[_REASON])
        told: Any = self.on_publish
        told(self, None, mid, reason, None)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def ping(self) -> None:
        """Ask the broker for a sign of life."""
        self._send_pingreq()

    def _handle_pingresp(self) -> MQTTErrorCode:
        if self.heard is not None:
            self.heard()
        return super()._handle_pingresp()


def session_options(connection: Connection) -> dict[str, Any]:
    """Return how a session is asked for that outlives the connection."""
    delay_s = _will_delay_s(connection)
    if connection.version != "5" or not (connection.session or delay_s):
        return {}
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    if not connection.session:
        properties.SessionExpiryInterval = delay_s  # a last will waits no longer than that
        return {"properties": properties}
    properties.SessionExpiryInterval = math.ceil(connection.keep_session.total_seconds())
    properties.ReceiveMaximum = _UNACKNOWLEDGED
    return {"clean_start": False, "properties": properties}


def goodbye_options(connection: Connection) -> dict[str, Any]:
    """Return how a connection is ended: what was kept for the last will alone is not needed."""
    if connection.session or not _will_delay_s(connection):
        return {}
    properties = Properties(PacketTypes.DISCONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 0
    return {"properties": properties}


def _will_delay_s(connection: Connection) -> int:
    will = connection.last_will
    return 0 if will is None else math.ceil(will.delay.total_seconds())


def set_last_will(client: paho.Client, connection: Connection) -> None:
    """Say what the broker publishes when we are gone without a goodbye. Raises BadInput."""
    will, delay_s = connection.last_will, _will_delay_s(connection)
    if will is None:
        return
    properties = None
    if delay_s:
        if connection.version != "5":
            raise errors.BadInput(f"{connection.name}: the delay of a last will needs MQTT 5")
        properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
        properties.WillDelayInterval = delay_s
    client.will_set(will.topic, will.payload, will.qos, will.retain, properties)


def publish_properties(
    connection: Connection,
    expiry: timedelta | None,
    answer_to: str | None,
    correlation: bytes | None,
    content_type: str | None,
) -> Properties | None:
    """Return what is said with a message. Raises BadInput for what 3.1.1 cannot say."""
    five = connection.version == "5"
    given = {
        "ContentType": content_type if five else None,  # 3.1.1 cannot say it, and sends it
        "MessageExpiryInterval": None if expiry is None else math.ceil(expiry.total_seconds()),
        "ResponseTopic": answer_to,
        "CorrelationData": correlation,
    }
    if expiry is not None and not expiry:
        raise errors.BadInput(f"{connection.name}: a message cannot expire after 0s")
    wanted = {name: value for name, value in given.items() if value is not None}
    if not wanted:
        return None
    if not five:
        raise errors.BadInput(f"{connection.name}: {', '.join(wanted)} needs MQTT 5")
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    for name, value in wanted.items():
        setattr(properties, name, value)
    return properties
