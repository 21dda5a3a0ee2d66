"""What each fault of a device or of the wire to it comes to; the tests run every cell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A row: a fault, what happens, and how it ends in each column ("" where it cannot be)."""

    name: str
    happens: str
    ends: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    """A table: how each column's operation ends under each fault."""

    title: str
    text: str
    test: str
    columns: tuple[str, ...]
    faults: tuple[Fault, ...]

    def end(self, fault: str, column: str) -> str:
        """Return how an operation ends under a fault; several ends stand with "or" between."""
        [row] = [row for row in self.faults if row.name == fault]
        return row.ends[self.columns.index(column)]


_WIRE = {
    "none": "nothing: all is well",
    "request-lost": "what is sent does not arrive",
    "request-reset": "the connection is reset before the request arrives",
    "answer-lost": "the request arrives, and no answer comes any more",
    "first-answer-lost": "one answer is lost, and later ones come",
    "second-answer-lost": "the first answer comes, and the second one is lost",
    "half-open": "the other side is gone, and nobody says so",
    "late": "each answer comes after the timeout",
    "short": "half an answer comes, and then nothing",
    "cut": "half an answer comes, and then the connection ends",
    "reset": "the connection is reset in place of the answer",
    "garbage": "garbage comes in place of the answer",
    "twice": "each answer comes twice",
    "wrong-number": "an answer comes that has the number of another request",
    "slow": "the answer comes in small pieces, within the timeout",
    "too-slow": "the answer comes in small pieces, and takes longer than the timeout",
    "flapping": "the connection is reset, made again, reset again",
}


def _on_wire(name: str, *ends: str) -> Fault:
    return Fault(name, _WIRE[name], ends)


_VALUE, _BAD, _CONFIRMED, _DONE, _LIMIT = "value", "bad", "confirmed", "done", "time limit"
_UNKNOWN, _MISREAD = "UnknownOutcome", "BadAnswer"
_TIMEOUT, _LOST = "DeviceTimeout", "DeviceUnreachable"
_REFUSED, _BUSY = "DeviceRefused", "DeviceBusy"

MODBUS = Matrix(
    "Modbus",
    "TCP, RTU over TCP and RTU on a serial line.",
    "tests/integration/test_modbus_faults.py",
    ("read", "write"),
    (
        Fault("no-answer", "no answer comes", (_TIMEOUT, _UNKNOWN)),
        Fault("late", "the answer comes after the timeout", (_TIMEOUT, _UNKNOWN)),
        Fault("wrong-unit", "another unit answers", (_TIMEOUT, _UNKNOWN)),
        Fault("wrong-function", "an answer to another function comes", (_MISREAD, _UNKNOWN)),
        Fault("wrong-exception", "another function is refused", (_MISREAD, _UNKNOWN)),
        Fault("short", "the answer has too few registers", (_BAD, _UNKNOWN)),
        Fault("garbage", "garbage comes in place of the answer", (_TIMEOUT, _UNKNOWN)),
        Fault("exception-1", "the device knows no such function", (_BAD, _REFUSED)),
        Fault("exception-2", "the device knows no such address", (_BAD, _REFUSED)),
        Fault("exception-4", "the device failed at it", (_BAD, _UNKNOWN)),
        Fault("exception-6", "the device is busy", (_BUSY, _BUSY)),
        Fault("exception-11", "what is behind a gateway does not answer", (_BUSY, _UNKNOWN)),
        Fault(
            "reset",
            "the connection is reset in place of the answer",
            (f"{_LOST} or {_TIMEOUT}", _UNKNOWN),
        ),
        Fault("slow", "the answer comes slowly, within the timeout", (_VALUE, _CONFIRMED)),
        Fault("flapping", "each second request is not answered", (_TIMEOUT, _UNKNOWN)),
    ),
)
OPCUA = Matrix(
    "OPC UA",
    "An answer carries its request's number, and a gap in the numbers ends the connection, so that "
    "nothing can be read back over it.",
    "tests/integration/test_opcua_faults.py",
    ("read", "write", "call"),
    (
        _on_wire("none", _VALUE, _CONFIRMED, _VALUE),
        _on_wire("request-lost", _TIMEOUT, _UNKNOWN, _UNKNOWN),
        _on_wire("request-reset", _LOST, _UNKNOWN, _UNKNOWN),
        _on_wire("answer-lost", _TIMEOUT, _UNKNOWN, _UNKNOWN),
        _on_wire("first-answer-lost", _TIMEOUT, _UNKNOWN, _UNKNOWN),
        _on_wire("second-answer-lost", "", _UNKNOWN, ""),
        _on_wire("half-open", _TIMEOUT, _UNKNOWN, _UNKNOWN),
        _on_wire("late", _TIMEOUT, _UNKNOWN, _UNKNOWN),
        _on_wire("short", _TIMEOUT, _UNKNOWN, _UNKNOWN),
        _on_wire("cut", _LOST, _UNKNOWN, _UNKNOWN),
        _on_wire("reset", _LOST, _UNKNOWN, _UNKNOWN),
        _on_wire("garbage", _TIMEOUT, _UNKNOWN, _UNKNOWN),
        _on_wire("twice", _VALUE, _UNKNOWN, _VALUE),
        _on_wire("wrong-number", _LOST, _UNKNOWN, _UNKNOWN),
        _on_wire("slow", _VALUE, _CONFIRMED, _VALUE),
        _on_wire("too-slow", _TIMEOUT, _UNKNOWN, _UNKNOWN),
        _on_wire("flapping", _LOST, _UNKNOWN, _UNKNOWN),
        Fault("refusing", "the server refuses", (_BAD, _REFUSED, _REFUSED)),
        Fault(
            "failing", "the server says that it failed, and did it", (_BAD, _CONFIRMED, _UNKNOWN)
        ),
        Fault(
            "doing nothing", "the server says that it failed, and did not do it", ("", _UNKNOWN, "")
        ),
        Fault("uncertain", "the server's status is uncertain", ("uncertain", _CONFIRMED, _VALUE)),
        Fault("busy", "the server answers that the whole service fails", (_BUSY, _UNKNOWN, "")),
        Fault(
            "taking long",
            "the server takes longer than the timeout",
            (_TIMEOUT, _CONFIRMED, _UNKNOWN),
        ),
    ),
)
_BROKER_CANNOT_REFUSE = (_REFUSED, _DONE, _DONE, _DONE)
MQTT = Matrix(
    "MQTT",
    "With MQTT 5. A `wait` and the answer to an `ask` have no timeout of their own: the step's "
    "time limit ends them, and after an unsafe `ask` the outcome is unknown then. QoS 0 knows no "
    "acknowledgement: that a message came to the broker is known from the answer to a ping behind "
    "it, and whether the broker refused it is not known at all.",
    "tests/integration/test_mqtt_faults.py",
    ("wait", "publish 0", "publish 1", "publish 2", "ask"),
    (
        _on_wire("none", _VALUE, _DONE, _DONE, _DONE, _VALUE),
        _on_wire("request-lost", _TIMEOUT, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("request-reset", _LOST, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("answer-lost", _LIMIT, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("first-answer-lost", "", _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("second-answer-lost", "", "", "", _UNKNOWN, ""),
        _on_wire("half-open", _LIMIT, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("late", _VALUE, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("short", _LIMIT, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("cut", _LOST, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("reset", _LOST, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("garbage", _LIMIT, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("twice", _VALUE, _DONE, _DONE, _DONE, _VALUE),
        _on_wire("wrong-number", "", "", _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("slow", _VALUE, _DONE, _DONE, _DONE, _VALUE),
        _on_wire("too-slow", _VALUE, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        _on_wire("flapping", _LOST, _UNKNOWN, _UNKNOWN, _UNKNOWN, _UNKNOWN),
        Fault("refusing", "the broker refuses", (_REFUSED, _DONE, _REFUSED, _REFUSED, _REFUSED)),
        Fault("silent", "nobody says anything", (_LIMIT, "", "", "", _LIMIT)),
        Fault("another's", "only answers to other questions come", ("", "", "", "", _LIMIT)),
        Fault(
            "another's first", "an answer to another question comes first", ("", "", "", "", _VALUE)
        ),
        Fault("answering twice", "the question is answered twice", ("", "", "", "", _VALUE)),
    ),
)
MQTT_OLD = Matrix(
    "MQTT 3.1.1",
    "As with MQTT 5, but that a broker has no way to say that it refuses a message.",
    "tests/integration/test_mqtt_faults.py",
    MQTT.columns[:-1],
    tuple(
        Fault(row.name, row.happens, _BROKER_CANNOT_REFUSE)
        if row.name == "refusing"
        else Fault(row.name, row.happens, row.ends[:-1])
        for row in MQTT.faults
        if any(row.ends[:-1])
    ),
)
_UNTRUSTED = "UntrustedServer"
SECURED = Matrix(
    "Secured connections, while they are made",
    "MQTT over TLS, over websockets with TLS, and an encrypted session of OPC UA: the fault is "
    "there from the beginning. No password goes to a server that is not trusted.",
    "tests/integration/test_secured_faults.py",
    ("MQTT", "websocket", "OPC UA"),
    (
        _on_wire("none", _VALUE, _VALUE, _VALUE),
        _on_wire("request-lost", _LOST, _LOST, _TIMEOUT),
        _on_wire("request-reset", _LOST, _LOST, _LOST),
        Fault("half-open", "the handshake never ends", (_LOST, _LOST, _TIMEOUT)),
        _on_wire("short", _LOST, _LOST, _TIMEOUT),
        _on_wire("cut", _LOST, _LOST, _LOST),
        _on_wire("reset", _LOST, _LOST, _LOST),
        _on_wire("garbage", _UNTRUSTED, _UNTRUSTED, _TIMEOUT),
        _on_wire("slow", _VALUE, _VALUE, _VALUE),
        _on_wire("too-slow", _LOST, _LOST, _TIMEOUT),
        Fault(
            "unknown", "nobody has trusted its certificate", (_UNTRUSTED, _UNTRUSTED, _UNTRUSTED)
        ),
        Fault("another name", "its certificate is another host's", (_UNTRUSTED, _UNTRUSTED, "")),
        Fault("expired", "its certificate was good until yesterday", (_UNTRUSTED, _UNTRUSTED, "")),
        Fault("another's", "its certificate is not the pinned one", ("", "", _UNTRUSTED)),
        Fault("in the clear", "it knows no encryption", (_LOST, _LOST, _MISREAD)),
    ),
)
_FRAMINGS = ("line", "delimiter", "length", "start-stop", "silence", "write")


def _all(end: str, write: str) -> tuple[str, ...]:
    return (*[end] * 5, write)


def _but(end: str, silence: str, write: str) -> tuple[str, ...]:
    return (*[end] * 4, silence, write)


def _but_start_stop(end: str, start_stop: str, write: str) -> tuple[str, ...]:
    return (end, end, end, start_stop, end, write)


_SERIAL = (
    Fault("none", "nothing: all is well", _all(_VALUE, _VALUE)),
    Fault("no-answer", "no answer comes", _all(_TIMEOUT, _UNKNOWN)),
    Fault("late", "the answer comes after the timeout", _all(_TIMEOUT, _UNKNOWN)),
    Fault("another's", "a frame comes that is no answer to this", _all(_TIMEOUT, _UNKNOWN)),
    Fault("slow", "the answer comes byte by byte, within the timeout", _all(_VALUE, _VALUE)),
    Fault("unplugged", "the device is unplugged when it is asked", _all(_LOST, _UNKNOWN)),
    Fault("unplugged-before", "the device was unplugged before", _all(_LOST, _LOST)),
    Fault("two", "another frame comes right behind the answer", _but(_VALUE, _TIMEOUT, _VALUE)),
    Fault(
        "one and a half",
        "half of another frame comes right behind the answer, and its rest later",
        _but(_VALUE, _TIMEOUT, _VALUE),
    ),
)
SERIAL_CHECKED = Matrix(
    "Serial lines, with a checksum",
    "Asking in each framing, and (`write`) an unsafe `serial.ask` in lines. Where silence ends a "
    "frame, two at once are one; some checksums are right then, so that `expect` has to tell.",
    "tests/integration/test_serial_faults.py",
    _FRAMINGS,
    (
        *_SERIAL,
        Fault("half", "half a frame comes, and then nothing", _but(_TIMEOUT, _MISREAD, _UNKNOWN)),
        Fault(
            "noise-before",
            "noise comes before the frame",
            _but_start_stop(_MISREAD, _VALUE, _UNKNOWN),
        ),
        Fault("noise", "noise comes, and then nothing", _but(_TIMEOUT, _MISREAD, _UNKNOWN)),
        Fault("altered", "a byte is altered on the way", _all(_MISREAD, _UNKNOWN)),
    ),
)
SERIAL_UNCHECKED = Matrix(
    "Serial lines, without a checksum",
    "With an `expect` that describes the whole frame, as `^W[0-9]{4}$` does. Without both, noise, "
    "an altered byte and, where silence ends a frame, half of one cannot be told from an answer.",
    "tests/integration/test_serial_faults.py",
    _FRAMINGS,
    (
        *_SERIAL,
        Fault("half", "half a frame comes, and then nothing", _all(_TIMEOUT, _UNKNOWN)),
        Fault(
            "noise-before",
            "noise comes before the frame",
            _but_start_stop(_TIMEOUT, _VALUE, _UNKNOWN),
        ),
        Fault("noise", "noise comes, and then nothing", _all(_TIMEOUT, _UNKNOWN)),
    ),
)
CONVERTER = Matrix(
    "Serial lines, through a converter in the network",
    "`socket://`, in lines with a checksum.",
    "tests/integration/test_serial_faults.py",
    ("read", "write"),
    (
        _on_wire("none", _VALUE, _VALUE),
        _on_wire("request-lost", _TIMEOUT, _UNKNOWN),
        _on_wire("request-reset", _LOST, _UNKNOWN),
        _on_wire("answer-lost", _TIMEOUT, _UNKNOWN),
        _on_wire("half-open", _TIMEOUT, _UNKNOWN),
        _on_wire("late", _TIMEOUT, _UNKNOWN),
        _on_wire("short", _TIMEOUT, _UNKNOWN),
        _on_wire("cut", _LOST, _UNKNOWN),
        _on_wire("reset", _LOST, _UNKNOWN),
        _on_wire("garbage", _TIMEOUT, _UNKNOWN),
        _on_wire("twice", _VALUE, _VALUE),
        _on_wire("slow", _VALUE, _VALUE),
        _on_wire("too-slow", _TIMEOUT, _UNKNOWN),
        _on_wire("flapping", _LOST, _UNKNOWN),
    ),
)
MATRICES = (MODBUS, OPCUA, MQTT, MQTT_OLD, SECURED, SERIAL_CHECKED, SERIAL_UNCHECKED, CONVERTER)
