"""Connections to devices: no field is accepted and then forgotten, or taken without an effect."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from blocks import ModbusDevice, MqttBroker, OpcUaServer, SerialLine
from blocks.connection import DeviceConnection

BASE: dict[type[DeviceConnection], dict[str, Any]] = {
    MqttBroker: {"host": "h"},
    ModbusDevice: {"host": "h"},
    OpcUaServer: {"url": "opc.tcp://h:4840"},
    SerialLine: {"port": "/dev/ttyS0"},
}
QUARANTINE: dict[str, dict[str, Any]] = {
    "timeout": {"timeout": "7s"},
    "quarantine_after": {"quarantine_after": 7},
    "quarantine_longest": {"quarantine_longest": "7s"},
}
_TLS, _WILL = {"tls": True}, {"will_topic": "t"}
_RTU = {"transport": "rtu", "serial_port": "/dev/a", "host": ""}
_USER, _SAFE = {"username": "u", "password": "p"}, {"security_policy": "Basic256Sha256"}
_MARKED, _BCC = {"framing": "start-stop"}, {"framing": "start-stop", "checksum": "xor"}
OTHER: dict[type[DeviceConnection], dict[str, dict[str, Any]]] = {
    MqttBroker: {
        "host": {"host": "other"},
        "port": {"port": 8883},
        "transport": {"transport": "websockets"},
        "path": {"transport": "websockets", "path": "/bus"},
        "version": {"version": "3.1.1"},
        "username": {"username": "u"},
        "password": _USER,
        "tls": _TLS,
        "ca_file": {**_TLS, "ca_file": "ca.pem"},
        "client_certificate": {**_TLS, "client_certificate": "c.pem", "client_key": "k.pem"},
        "client_key": {**_TLS, "client_certificate": "c.pem", "client_key": "other.pem"},
        "cbor": {"cbor": True},
        "will_topic": _WILL,
        "will_payload": {**_WILL, "will_payload": "gone"},
        "will_qos": {**_WILL, "will_qos": 2},
        "will_retain": {**_WILL, "will_retain": True},
        "will_delay": {**_WILL, "will_delay": "5s"},
        **QUARANTINE,
    },
    ModbusDevice: {
        "transport": {"transport": "rtu-over-tcp"},
        "host": {"host": "other"},
        "port": {"port": 503},
        "unit": {"unit": 7},
        "serial_port": _RTU,
        "baudrate": {**_RTU, "baudrate": 19200},
        "parity": {**_RTU, "parity": "E"},
        "stopbits": {**_RTU, "stopbits": 2},
        "pause": {"pause": "5ms"},
        "late_answers": {"transport": "rtu-over-tcp", "late_answers": "1s"},
        "max_gap": {"max_gap": 3},
        "max_registers": {"max_registers": 20},
        "max_bits": {"max_bits": 20},
        "holes": {"holes": [{"first": 3, "last": 4}]},
        "tags": {"tags": [{"name": "a", "address": 1}]},
        **QUARANTINE,
    },
    OpcUaServer: {
        "url": {"url": "opc.tcp://other:4840"},
        "security_policy": _SAFE,
        "security_mode": {**_SAFE, "security_mode": "sign"},
        "server_fingerprint": {**_SAFE, "server_fingerprint": "ab" * 32},
        "username": {**_SAFE, **_USER},
        "password": {**_SAFE, "username": "u", "password": "other"},
        "password_in_the_clear": {**_USER, "password_in_the_clear": True},
        "user_certificate": {"user_certificate": "c.der", "user_key": "k.pem"},
        "user_key": {"user_certificate": "c.der", "user_key": "other.pem"},
        "tags": {"tags": [{"name": "a", "node": "i=85"}]},
        **QUARANTINE,
    },
    SerialLine: {
        "port": {"port": "/dev/ttyS1"},
        "baudrate": {"baudrate": 19200},
        "bytesize": {"bytesize": 7},
        "parity": {"parity": "E"},
        "stopbits": {"stopbits": 2},
        "late_answers": {"late_answers": "1s"},
        "framing": {"framing": "silence"},
        "start": {**_MARKED, "start": "05"},
        "stop": {**_MARKED, "stop": "04"},
        "length": {"framing": "length", "length": 7},
        "silence": {"silence": "1s"},
        "checksum": {"checksum": "xor"},
        "checksum_as_hex": {"checksum": "xor", "checksum_as_hex": True},
        "checksum_after_stop": {**_BCC, "checksum_after_stop": True},
        "checksum_covers": {**_BCC, "checksum_after_stop": True, "checksum_covers": "data-stop"},
        **QUARANTINE,
    },
}
"""For each field: what to set so that it is another, with what it needs."""


@pytest.mark.parametrize(
    ("kind", "field"),
    [(kind, field) for kind, fields in OTHER.items() for field in fields],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_each_field_reaches_the_driver(kind: Any, field: str) -> None:
    """Another value of it gives the driver another connection than what it needs alone."""
    given = OTHER[kind][field]
    changed = kind(**{**BASE[kind], **given}).connection()
    alone = {key: value for key, value in given.items() if key != field}
    seen = [changed]
    for before in ({}, alone):
        try:
            seen.append(kind(**{**BASE[kind], **before}).connection())
        except ValidationError:  # what it needs is nothing without it
            continue
    assert all(changed != other for other in seen[1:])
    assert len(seen) > 1


@pytest.mark.parametrize("kind", OTHER, ids=lambda kind: kind.__name__)
def test_no_field_is_left_out(kind: Any) -> None:
    """What is new has to stand here as well."""
    assert set(OTHER[kind]) == set(kind.model_fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"start": "05"}, "start has no effect"),
        ({"framing": "delimiter", "start": "05"}, "start has no effect"),
        ({"stop": "0d"}, "stop has no effect"),
        ({"checksum_as_hex": True}, "there is none to write"),
        ({"framing": "length"}, "go together"),
        ({"checksum_after_stop": True, "framing": "start-stop"}, "goes with a checksum"),
        ({"checksum_after_stop": True, "checksum": "xor"}, "and with stop bytes"),
        ({"checksum": "xor", "checksum_covers": "data-stop"}, "checksum_covers has no effect"),
        (
            {
                "framing": "delimiter",
                "checksum": "xor",
                "checksum_after_stop": True,
                "checksum_covers": "start-data-stop",
            },
            "no start bytes",
        ),
        ({"port": "socket://h:1", "baudrate": 19200}, "the converter itself"),
    ],
)
def test_what_a_line_cannot_be(fields: dict[str, Any], said: str) -> None:
    """Fields without an effect are refused."""
    with pytest.raises(ValidationError, match=said):
        SerialLine(**{"port": "/dev/ttyS0", **fields})
