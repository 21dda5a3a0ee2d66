"""The serial driver against a scale and a barcode reader on a pseudo-terminal, and over sockets."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import tty
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from smartops import errors
from smartops.drivers import modbus, serial_line
from smartops.drivers.framing import Framing
from smartops.drivers.serial_line import Connection
from tasks.serial_line import found, pattern, sent_bytes

pytestmark = pytest.mark.usefixtures("home")


@dataclass
class Scale:
    """Answers each frame by what stands in ``answers``, after ``delay_s``."""

    path: str
    wire: int
    asked: list[bytes] = field(default_factory=list)
    answers: dict[bytes, list[bytes]] = field(default_factory=dict)
    delay_s: float = 0.0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def say(self, *parts: bytes, gap_s: float = 0.0) -> None:
        async def send() -> None:
            await asyncio.sleep(self.delay_s)
            for part in parts:
                os.write(self.wire, part)
                await asyncio.sleep(gap_s)

        task = asyncio.create_task(send())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def ready(self) -> None:
        question = os.read(self.wire, 1000)
        self.asked.append(question)
        self.say(*self.answers.get(question, []), gap_s=0.1)


@pytest.fixture
async def scale() -> AsyncIterator[Scale]:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    made = Scale(os.ttyname(theirs), ours)
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, made.ready)
    yield made
    await asyncio.gather(*made.tasks)
    loop.remove_reader(ours)
    os.close(ours)
    os.close(theirs)


def to(scale: Scale, **changes: Any) -> Connection:
    limit = timedelta(seconds=5)
    return replace(Connection("scale", scale.path, timeout=limit), **changes)


async def ask(connection: Connection, question: bytes, expect: str = "") -> bytes:
    async with serial_line.open_line(connection) as line:
        return await line.ask(question, pattern(expect))


FRAMES = [
    (Framing("line"), b"W?\r\n", [b"ST,+01", b"2.5kg\r", b"\n"], b"ST,+012.5kg"),
    (Framing("delimiter", stop=b";"), b"W?;", [b"1", b"2;"], b"12"),
    (Framing("length", length=4), b"W?", [b"12", b"34"], b"1234"),
    (Framing("start-stop"), b"\x02W?\x03", [b"noise\x0212", b"34\x03"], b"1234"),
    (Framing("silence"), b"W?", [b"12", b"34"], b"1234"),
    (Framing("line", checksum="xor", checksum_as_hex=True), b"W?68\r\n", [b"AB03\r\n"], b"AB"),
    (
        Framing("start-stop", checksum="xor", checksum_after_stop=True),
        b"\x02W?\x03\x68",
        [b"\x0212", b"34\x03", b"\x04"],
        b"1234",
    ),
    (
        Framing(
            "start-stop", checksum="xor", checksum_after_stop=True, checksum_covers="data-stop"
        ),
        b"\x02W?\x03\x6b",
        [b"\x0212", b"34\x03", b"\x07"],
        b"1234",
    ),
    (
        Framing(
            "start-stop",
            checksum="xor",
            checksum_after_stop=True,
            checksum_covers="start-data-stop",
        ),
        b"\x02W?\x03\x69",
        [b"\x0212", b"34\x03\x05"],
        b"1234",
    ),
]


@pytest.mark.parametrize(("framing", "sent", "parts", "data"), FRAMES)
async def test_frames(
    scale: Scale, framing: Framing, sent: bytes, parts: list[bytes], data: bytes
) -> None:
    """However it is cut up on its way, an answer is taken when it is whole."""
    scale.answers[framing.wrapped(b"W?")] = parts
    connection = to(scale, framing=framing, silence=timedelta(seconds=1))
    assert await ask(connection, b"W?") == data
    assert scale.asked == [sent]


CHECKS = {
    "sum": "dd",
    "xor": "31",
    "lrc": "23",
    "crc16-modbus": "374b",
    "crc16-xmodem": "31c3",
    "crc16-kermit": "8921",
    "crc16-arc": "3dbb",
    "crc16-ibm-3740": "29b1",
    "crc16-usb": "c8b4",
}
"""Of 123456789, as catalogues of checksums have them; the byte that goes first stands first."""


@pytest.mark.parametrize("checksum", CHECKS)
def test_a_checksum_may_be_a_letter(checksum: Any) -> None:
    """In bytes it is compared as it is; as hexadecimal digits in capitals or small letters."""
    framing = Framing("silence", checksum=checksum)
    for number in range(300):
        frame = framing.wrapped(b"%d" % number)
        assert framing.checked(frame) == b"%d" % number
    as_text = replace(framing, checksum_as_hex=True)
    assert as_text.checked(as_text.wrapped(b"12").lower()) == b"12"


@pytest.mark.parametrize("checksum", CHECKS)
def test_checksums(checksum: Any) -> None:
    """Are those of the catalogue, and one wrong bit is found."""
    framing = Framing("length", length=20, checksum=checksum)
    frame = framing.wrapped(b"123456789")
    assert frame[9:].hex() == CHECKS[checksum]
    assert framing.checked(frame) == b"123456789"
    with pytest.raises(ValueError, match="wrong checksum"):
        framing.checked(bytes([frame[0] ^ 1]) + frame[1:])
    with pytest.raises(ValueError, match="shorter"):
        framing.checked(b"")


async def test_a_part_is_no_answer(scale: Scale) -> None:
    """The library would hand it over; and what comes late is not the next question's answer."""
    scale.answers[b"W?\r\n"] = [b"12."]
    with pytest.raises(errors.DeviceTimeout, match="a part came: 31322e"):
        await ask(to(scale, timeout=timedelta(seconds=1)), b"W?")
    scale.answers = {b"W?\r\n": [b"first\r\n"], b"T?\r\n": [b"second\r\n"]}
    scale.delay_s = 1.0
    hurried = to(scale, timeout=timedelta(seconds=0.5), late=timedelta(seconds=1.5))
    with pytest.raises(errors.DeviceTimeout):
        await ask(hurried, b"W?")
    scale.delay_s = 0.0
    assert await ask(to(scale), b"T?") == b"second"


async def test_a_wrong_checksum_is_no_answer(scale: Scale) -> None:
    """It is said what was expected."""
    framing = Framing("line", checksum="sum")
    scale.answers[framing.wrapped(b"W?")] = [b"12x\r\n"]
    with pytest.raises(errors.BadAnswer, match="wrong checksum: 63"):
        await ask(to(scale, framing=framing, timeout=timedelta(seconds=1)), b"W?")


async def test_somebody_elses_frame_is_passed_over(scale: Scale) -> None:
    """The answer is known by what it looks like."""
    scale.answers[b"W?\r\n"] = [b"EVENT door\r\n", b"W 12.5 kg\r\n"]
    data = await ask(to(scale), b"W?", r"W (?P<kg>[\d.]+)")
    assert found(data, pattern(r"W (?P<kg>[\d.]+)"))["fields"] == {"kg": "12.5"}


async def test_a_barcode_reader_speaks_by_itself(scale: Scale) -> None:
    """A frame is waited for; cancelling it frees the line at once."""
    async with serial_line.open_line(to(scale)) as line:
        task = asyncio.create_task(line.listen(None, None))
        await asyncio.sleep(0)
        scale.say(b"40123", b"45678\r\n", gap_s=0.05)
        assert await task == b"4012345678"
        with pytest.raises(errors.DeviceTimeout):
            await line.listen(timedelta(seconds=0.1), None)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(line.listen(None, None), 0.1)
    scale.answers[b"W?\r\n"] = [b"ok\r\n"]
    assert await ask(to(scale), b"W?") == b"ok"


async def test_a_line_has_one_user(scale: Scale) -> None:
    """Another program that asks for it alone is refused; a port that is none is said so."""
    import serial

    other = serial.serial_for_url(scale.path, exclusive=True)
    with pytest.raises(errors.DeviceUnreachable, match="cannot be opened"):
        await ask(to(scale), b"W?")
    other.close()
    with pytest.raises(errors.DeviceUnreachable, match="/dev/ttyNONE"):
        await ask(to(scale, port="/dev/ttyNONE"), b"W?")
    with pytest.raises(errors.BadInput):
        await ask(to(scale, port="nonsense://x"), b"W?")


async def test_a_converter_in_the_network() -> None:
    """``socket://`` and its end in the middle."""
    answers = [b"12.5 kg\r\n", b""]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        if answer := answers.pop(0):
            writer.write(answer)
            await reader.read()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = Connection(
        "scale",
        f"socket://127.0.0.1:{port}",
        timeout=timedelta(seconds=2),
        late=timedelta(),
    )
    assert await ask(connection, b"W?") == b"12.5 kg"
    with pytest.raises(errors.TransientError):
        await ask(connection, b"W?")
    server.close()
    await server.wait_closed()
    with pytest.raises(errors.DeviceUnreachable):
        await ask(connection, b"W?")


def test_what_is_sent_and_found() -> None:
    """Texts and bytes; what is not printable is no text."""
    assert sent_bytes("W?", "text") == b"W?"
    assert sent_bytes("02ff", "hex") == b"\x02\xff"
    for text, form in (("x", "hex"), ("€", "text")):
        with pytest.raises(errors.BadInput):
            sent_bytes(text, form)  # type: ignore[arg-type]
    assert found(b"\x00\x01", None) == {"text": None, "hex": "0001", "fields": {}}
    with pytest.raises(errors.BadInput):
        pattern("(")
    assert re.compile(b"a").search(b"a")


async def test_what_was_cancelled_before_its_turn_sends_nothing(scale: Scale) -> None:
    """The thread of the line was busy; when it comes to the question, nobody wants it any more."""
    async with serial_line.open_line(to(scale)) as line:
        stop = threading.Event()
        stop.set()
        with pytest.raises(errors.DeviceTimeout) as broken_off:
            line._exchange(b"GO", None, 1.0, stop)
        assert (broken_off.value.not_done, line.sent) == (True, False)
        assert scale.asked == []


def test_one_wire_has_one_name() -> None:
    """A converter passes on the bytes of its line, for Modbus and for other devices alike."""
    seconds = timedelta(seconds=1)
    bus = modbus.Connection("plc", "Gate", 4001, 1, seconds, (), transport="rtu-over-tcp")
    assert bus.resource == Connection("scale", "socket://gate:4001").resource
    assert replace(bus, transport="tcp").resource == "modbus://gate:4001"
