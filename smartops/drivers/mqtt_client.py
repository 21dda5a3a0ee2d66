"""The MQTT library's client, which hears what the library itself passes over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from smartops.drivers.mqtt_wire import WiredClient

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
