"""The Modbus driver against devices made with libmodbus and jsmodbus."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from smartops import errors
from smartops.drivers import modbus
from smartops.drivers.coalesce import plan_reads
from smartops.drivers.tags import Tag
from smartops.drivers.writing import WriteOptions
from tests import other_makes
from tests.conftest import free_port
from tests.integration.test_modbus_driver import Log
from tests.other_makes import Memory, Polled, Server

pytestmark = pytest.mark.usefixtures("home")

VALUES: tuple[tuple[dict[str, Any], list[int], Any], ...] = (
    ({"kind": "u16"}, [0xFDE8], 65000),
    ({"kind": "u16", "order": "BADC"}, [0xE8FD], 65000),
    ({"kind": "i16"}, [0xFFFE], -2),
    ({"kind": "u16", "scale": 0.1}, [0x0283], 64.3),
    ({"kind": "u16", "enum": {"stopped": 0, "running": 7}}, [0x0007], "running"),
    ({"kind": "i16", "count": 3}, [0x0001, 0x8000, 0x7FFF], [1, -32768, 32767]),
    ({"kind": "u32"}, [0x0001, 0x86A0], 100_000),
    ({"kind": "u32", "order": "CDAB"}, [0x86A0, 0x0001], 100_000),
    ({"kind": "u32", "order": "BADC"}, [0x0100, 0xA086], 100_000),
    ({"kind": "u32", "order": "DCBA"}, [0xA086, 0x0100], 100_000),
    ({"kind": "i32"}, [0xFFFE, 0x7960], -100_000),
    ({"kind": "u64"}, [0x0123, 0x4567, 0x89AB, 0xCDEF], 0x0123456789ABCDEF),
    ({"kind": "u64", "order": "CDAB"}, [0xCDEF, 0x89AB, 0x4567, 0x0123], 0x0123456789ABCDEF),
    ({"kind": "u64", "order": "BADC"}, [0x2301, 0x6745, 0xAB89, 0xEFCD], 0x0123456789ABCDEF),
    ({"kind": "u64", "order": "DCBA"}, [0xEFCD, 0xAB89, 0x6745, 0x2301], 0x0123456789ABCDEF),
    ({"kind": "i64"}, [0xFFFF, 0xFFFF, 0xFFFF, 0xFFFE], -2),
    ({"kind": "f16"}, [0x3E00], 1.5),
    ({"kind": "f32"}, [0x42F6, 0xE979], 123.456),
    ({"kind": "f32", "order": "CDAB"}, [0xE979, 0x42F6], 123.456),
    ({"kind": "f32", "order": "BADC"}, [0xF642, 0x79E9], 123.456),
    ({"kind": "f32", "order": "DCBA"}, [0x79E9, 0xF642], 123.456),
    ({"kind": "f64"}, [0x405E, 0xDD2F, 0x1A9F, 0xBE77], 123.456),
    ({"kind": "f64", "order": "DCBA"}, [0x77BE, 0x9F1A, 0x2FDD, 0x5E40], 123.456),
    ({"kind": "bcd16"}, [0x1234], 1234),
    ({"kind": "bcd32", "order": "CDAB"}, [0x5678, 0x1234], 12345678),
    ({"kind": "string", "length": 4}, [0x5055, 0x4D50, 0x2037, 0x0000], "PUMP 7"),
    ({"kind": "string", "length": 3, "order": "BADC"}, [0x5550, 0x504D, 0x3720], "PUMP 7"),
)
"""Fields of a tag, the words that it fills, and what they mean."""
BITS = (
    ({"kind": "bool", "bit": 3}, [0x0008], True),
    ({"kind": "bool", "bit": 3, "order": "BADC"}, [0x0800], True),
    ({"kind": "bool", "bit": 15}, [0x7FFF], False),
)
COILS = [1, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0, 1]
SIZE = 400
MOST_BITS = 2000
WRITTEN = 200
"""From here on the registers are zero, for what is written."""


def placed(
    rows: tuple[tuple[dict[str, Any], list[int], Any], ...], start: int, prefix: str, **fields: Any
) -> tuple[list[Tag], list[int], dict[str, Any]]:
    """Return tags one behind the other, all their words, and the value of each tag."""
    tags, words, values = list[Tag](), list[int](), dict[str, Any]()
    for number, (own, filled, value) in enumerate(rows):
        name = f"{prefix}{number}_{own['kind']}"
        tags.append(Tag(name=name, address=start + len(words), **own, **fields))
        words += filled
        values[name] = value
    return tags, words, values


HOLDING, HELD_WORDS, HELD = placed(VALUES + BITS, 0, "h")
INPUT, _, GIVEN = placed(VALUES + BITS, 0, "i", area="input")
TO_WRITE, WRITTEN_WORDS, TO_HOLD = placed(VALUES, WRITTEN, "w", allow_write=True)
BIT_TAGS = [
    Tag(name="one", area="coil", address=7, kind="bool", allow_write=True),
    Tag(name="row", area="coil", address=2, kind="bool", count=11, overlap=True, allow_write=True),
    Tag(name="door", area="discrete", address=3, kind="bool"),
    Tag(name="doors", area="discrete", address=0, kind="bool", count=14, overlap=True),
]
MASKED = Tag(name="masked", address=390, kind="bool", bit=4, allow_write=True)
FAR = [Tag(name=f"r{at}", address=at) for at in range(100, 130, 3)]
HOLES = [Tag(name=f"hole{at}", address=at) for at in (344, 350, 353, 356)]
TAGS = (*HOLDING, *INPUT, *TO_WRITE, *BIT_TAGS, MASKED, *FAR, *HOLES)


def memory() -> Memory:
    """Return what the device holds: the values from 0, zeros from 200, else 1000 + address.

    libmodbus refuses two addresses, in two ways.
    """
    rest = [*range(1000 + len(HELD_WORDS), 1000 + WRITTEN), *[0] * (SIZE - WRITTEN)]
    held = [*HELD_WORDS, *rest]
    held[358] = 0x7FC0  # as a float: not a number
    bits = [*COILS, *[0, 1] * ((MOST_BITS - len(COILS)) // 2)]
    return Memory(bits, bits, held, held, refused={"holding": {350: 2, 356: 3}})


@dataclass
class Device:
    """A running device of another make, and how to reach it."""

    server: Server
    transport: Any
    port: int
    path: str = ""

    def connection(self, **changes: Any) -> modbus.Connection:
        line = modbus.SerialLine(self.path, baudrate=115_200) if self.path else None
        connection = modbus.Connection(
            "plc", "127.0.0.1", self.port, 1, timedelta(seconds=10), TAGS, transport=self.transport
        )
        return replace(connection, line=line, **changes)

    def asked(self) -> list[tuple[int, int, int]]:
        """Return unit, function and address of each request that it got."""
        start = 6 if self.transport == "tcp" else 0
        return [(r[0], r[1], int.from_bytes(r[2:4], "big")) for r in self._bodies(start)]

    def requests(self) -> list[bytes]:
        """Return each request that it got."""
        return self._bodies(0)

    def _bodies(self, start: int) -> list[bytes]:
        return [request[start:] for request in self.server.requests()]

    async def poll(self, *arguments: str) -> Polled:
        """Ask it with mbpoll."""
        assert self.transport != "rtu-over-tcp"
        return await other_makes.mbpoll(self.path or "127.0.0.1", *arguments, port=self.port)


@pytest.fixture(params=["libmodbus-tcp", "libmodbus-rtu", "jsmodbus-tcp", "jsmodbus-rtu-over-tcp"])
async def device(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path
) -> AsyncIterator[Device]:
    """A device of each make and transport, with what :func:`memory` says."""
    make, _, transport = request.param.partition("-")
    held, port = memory(), free_port()
    async with AsyncExitStack() as stack:
        if transport == "rtu":
            theirs, ours = await stack.enter_async_context(other_makes.serial_pair())
            server = other_makes.libmodbus("rtu", theirs, held, tmp_path)
            found = Device(server, "rtu", 0, ours)
        elif make == "libmodbus":
            found = Device(other_makes.libmodbus("tcp", str(port), held, tmp_path), transport, port)
        else:
            framing = transport.partition("-")[0]
            found = Device(other_makes.jsmodbus(framing, port, held, tmp_path), transport, port)
        stack.enter_context(other_makes.running(found.server))
        yield found


def only(*makes: str) -> pytest.MarkDecorator:
    """Run a test with these makes and transports."""
    return pytest.mark.parametrize("device", makes, indirect=True)


async def test_every_area_and_type(device: Device) -> None:
    """All types in all byte orders mean what they should, in one request for each area."""
    names = [tag.name for tag in (*HOLDING, *INPUT, *BIT_TAGS)]
    async with modbus.open_device(device.connection()) as opened:
        readings = {reading.tag: reading for reading in await opened.read(names)}
    wrong = [reading for reading in readings.values() if reading.quality != "good"]
    assert wrong == []
    coils = [bool(bit) for bit in COILS]
    bits = {"one": coils[7], "row": coils[2:13], "door": coils[3], "doors": coils}
    assert {name: readings[name].value for name in names} == HELD | GIVEN | bits
    assert sorted(device.asked()) == [(1, 1, 2), (1, 2, 0), (1, 3, 0), (1, 4, 0)]


async def test_scattered_tags_are_read_in_the_fewest_requests(device: Device) -> None:
    """The answers to merged requests are cut up right, and there are no needless requests."""
    connection = device.connection(max_gap=2)
    names = [tag.name for tag in reversed(FAR)]
    async with modbus.open_device(connection) as opened:
        assert [r.value for r in await opened.read(names)] == [
            1000 + tag.address for tag in reversed(FAR)
        ]
        assert device.asked() == [(1, 3, 100)]
        everything = (*HOLDING, *FAR, MASKED)
        await opened.read(tag.name for tag in everything)
    assert len(device.asked()) == 1 + len(plan_reads(everything, max_gap=2)) == 4


@only("libmodbus-tcp", "jsmodbus-tcp")
async def test_the_most_that_a_device_allows_in_one_request(device: Device) -> None:
    """Is kept for registers and for bits, by what the device itself has heard."""
    bits = [Tag(name=f"b{at}", area="discrete", address=at, kind="bool") for at in range(14)]
    connection = device.connection(tags=(*HOLDING, *bits), max_registers=10, max_bits=5)
    names = [tag.name for tag in connection.tags]
    async with modbus.open_device(connection) as opened:
        readings = {reading.tag: reading.value for reading in await opened.read(names)}
    held = {f"b{at}": bool(bit) for at, bit in enumerate(COILS)}
    assert readings == HELD | held
    heard = [(request[7], int.from_bytes(request[10:12], "big")) for request in device.requests()]
    assert max(count for function, count in heard if function == 3) <= 10
    assert [count for function, count in heard if function == 2] == [5, 5, 4]


OPTIONS = WriteOptions(verify_within=timedelta(seconds=10))


async def test_what_is_written_is_what_the_device_holds(device: Device) -> None:
    """Each value is sent once and read back; another client finds the same words there."""
    async with modbus.open_device(device.connection()) as opened:
        for name, value in TO_HOLD.items():
            _, result = await opened.write(name, value, Log(), OPTIONS)
            assert (name, result.state, result.after) == (name, "confirmed", value)
    sent = [asked for asked in device.asked() if asked[1] in {6, 16}]
    assert sent == [(1, 6 if tag.words == 1 else 16, tag.address) for tag in TO_WRITE]
    if device.transport != "rtu-over-tcp":
        count = len(WRITTEN_WORDS)
        found = await device.poll("-t4:hex", f"-r{WRITTEN}", f"-c{count}")
        assert [int(word, 16) for word in found.values] == WRITTEN_WORDS
    async with modbus.open_device(device.connection()) as opened:
        assert {r.tag: r.value for r in await opened.read(TO_HOLD)} == TO_HOLD


async def test_coils_are_written_alone_and_in_rows(device: Device) -> None:
    """The neighbours of a row that begins and ends within a byte stay as they are."""
    row = [False, True, True, False, True, False, True, True, False, False, True]
    async with modbus.open_device(device.connection()) as opened:
        for name, value in (("one", False), ("row", row), ("one", True)):
            assert (await opened.write(name, value, Log(), OPTIONS))[1].state == "confirmed"
    expected = [*COILS[:2], *map(int, row), *COILS[13:]]
    expected[7] = 1
    if device.transport != "rtu-over-tcp":
        found = await device.poll("-t0", "-r0", f"-c{len(COILS)}")
        assert [int(bit) for bit in found.values] == expected
    written = [asked for asked in device.asked() if asked[1] in {5, 15}]
    assert written == [(1, 5, 7), (1, 15, 2), (1, 5, 7)]


@only("libmodbus-tcp", "libmodbus-rtu", "jsmodbus-tcp")  # on RTU jsmodbus takes no such write
async def test_the_largest_requests(device: Device) -> None:
    """As many registers and coils as the protocol allows in one request, read and written."""
    tags = (
        Tag(name="registers", area="input", address=0, count=125),
        Tag(name="written", address=WRITTEN, count=123, allow_write=True),
        Tag(name="bits", area="discrete", address=0, kind="bool", count=2000),
        Tag(name="coils", area="coil", address=1, kind="bool", count=1968, allow_write=True),
    )
    values: dict[str, Any] = {
        "written": list(range(65_535, 65_535 - 123, -1)),
        "coils": [True, False, False] * 656,
    }
    async with modbus.open_device(device.connection(tags=tags)) as opened:
        for name, value in values.items():
            assert (await opened.write(name, value, Log(), OPTIONS))[1].state == "confirmed"
        readings = await opened.read(["registers", "bits", "written", "coils"])
    held = memory()
    assert [reading.value for reading in readings] == [
        held.input[:125],
        [bool(bit) for bit in held.discrete],
        values["written"],
        values["coils"],
    ]


@only("libmodbus-tcp", "libmodbus-rtu", "jsmodbus-tcp")
async def test_what_mbpoll_writes_is_what_is_read(device: Device) -> None:
    """Numbers of another client, in the two orders of words that it knows."""
    tags = (
        Tag(name="big", address=300, kind="f32"),
        Tag(name="swapped", address=302, kind="f32", order="CDAB"),
        Tag(name="whole", address=304, kind="i32"),
        Tag(name="words", address=306, kind="u16", count=2),
    )
    for arguments in (
        ("-t4:float", "-B", "-r300", "65.3"),
        ("-t4:float", "-r302", "65.3"),
        ("-t4:int", "-B", "-r304", "70000"),
        ("-t4", "-r306", "1", "65535"),
    ):
        assert (await device.poll(*arguments)).code == 0
    async with modbus.open_device(device.connection(tags=tags)) as opened:
        values = [r.value for r in await opened.read(["big", "swapped", "whole", "words"])]
    assert values == [65.3, 65.3, 70000, [1, 65535]]


@only("libmodbus-tcp", "libmodbus-rtu")
async def test_a_bit_of_a_register_is_changed_alone(device: Device) -> None:
    """Function 22 leaves the other fifteen as they are."""
    await device.poll("-t4", "-r390", "4660")  # 0x1234: bit 4 is set
    async with modbus.open_device(device.connection()) as opened:
        await opened.write("masked", False, Log(), OPTIONS)
        assert (await opened.read(["masked"]))[0].value is False
    assert (await device.poll("-t4:hex", "-r390")).values == ["0x1224"]
    async with modbus.open_device(device.connection()) as opened:
        await opened.write("masked", True, Log(), OPTIONS)
    assert (await device.poll("-t4:hex", "-r390")).values == ["0x1234"]


@only("jsmodbus-tcp")
async def test_a_device_that_does_not_answer_function_22(device: Device) -> None:
    """Jsmodbus falls silent: the outcome is unknown, and nothing else is tried in its place."""
    log = Log()
    async with modbus.open_device(device.connection(timeout=timedelta(seconds=2))) as opened:
        with pytest.raises(errors.UnknownOutcome, match="no answer"):
            await opened.write("masked", True, log, OPTIONS)
    assert [result.state for result in log.concluded] == ["unknown"]
    assert [function for _, function, _ in device.asked()] == [3, 22, 3]
    async with modbus.open_device(device.connection()) as opened:
        assert (await opened.read(["masked"]))[0].value is False


@only("libmodbus-tcp", "libmodbus-rtu")
async def test_refused_addresses_harm_no_neighbour_and_are_remembered(device: Device) -> None:
    """Exceptions 2 and 3 to a merged request: split once, and planned around from then on."""
    names = [tag.name for tag in HOLES]
    expected = [0, None, 0, None]
    async with modbus.open_device(device.connection()) as opened:
        readings = await opened.read(names)
    assert [reading.value for reading in readings] == expected
    assert "illegal data address (2)" in readings[1].reason
    assert "illegal data value (3)" in readings[3].reason
    assert device.asked() == [(1, 3, 344), *((1, 3, tag.address) for tag in HOLES)]
    before = len(device.asked())
    async with modbus.open_device(device.connection()) as opened:
        assert [reading.value for reading in await opened.read(names)] == expected
    later = [address for _, _, address in device.asked()[before:]]
    assert later == [344, 350, 353, 356], "none of them was asked for together"


@only("libmodbus-tcp")
async def test_a_register_without_a_number_is_no_hole(device: Device) -> None:
    """What is refused lies between the tags: that is remembered, and not the tag that holds NaN."""
    tags = (
        Tag(name="before", address=348),
        Tag(name="after", address=352),
        Tag(name="nan", address=358, kind="f32"),
    )
    for expected in ([348, 348, 352, 358], [348, 352, 358]):
        before = len(device.asked())
        async with modbus.open_device(device.connection(tags=tags)) as opened:
            readings = await opened.read(["before", "after", "nan"])
        assert [reading.value for reading in readings] == [0, 0, None]
        assert "nan" in readings[2].reason
        assert [address for _, _, address in device.asked()[before:]] == expected


@only("libmodbus-tcp", "libmodbus-rtu", "jsmodbus-tcp")
async def test_what_lies_beyond_the_end_harms_no_neighbour(device: Device) -> None:
    """Libmodbus refuses it; jsmodbus answers with fewer registers than were asked for."""
    last = Tag(name="last", address=SIZE - 1)
    beyond = Tag(name="beyond", address=SIZE + 2, kind="u32", allow_write=True)
    connection = device.connection(tags=(last, beyond))
    for _ in range(2):  # also where it is known
        async with modbus.open_device(connection) as opened:
            good, bad = await opened.read(["last", "beyond"])
        assert (good.value, good.quality) == (0, "good")
        assert (bad.value, bad.quality) == (None, "bad")
    log = Log()
    async with modbus.open_device(connection) as opened:
        with pytest.raises(errors.DeviceRefused, match=r"illegal data address \(2\)"):
            await opened.write("beyond", 5, log, OPTIONS)
    assert [result.state for result in log.concluded] == ["refused"]


async def test_a_device_that_goes_and_comes_back(device: Device) -> None:
    """A power cut is a transient error, and afterwards all is as before."""
    async with modbus.open_device(device.connection()) as opened:
        assert (await opened.read(["r100"]))[0].value == 1100
    connection = device.connection(timeout=timedelta(seconds=0.6), late=timedelta())
    async with modbus.open_device(connection) as opened:
        device.server.kill()
        with pytest.raises((errors.DeviceUnreachable, errors.DeviceTimeout)):
            await opened.read(["r100"])
    if device.transport != "rtu":
        with pytest.raises(errors.DeviceUnreachable):
            async with modbus.open_device(connection):
                pass
    device.server.start()
    async with modbus.open_device(device.connection()) as opened:
        assert (await opened.read(["r103"]))[0].value == 1103


@only("libmodbus-tcp")
async def test_a_unit_that_a_gateway_cannot_reach(device: Device) -> None:
    """Exception 11 is transient, and not the fault of the tag."""
    async with modbus.open_device(device.connection(unit=7)) as opened:
        with pytest.raises(errors.DeviceBusy, match=r"gateway target did not respond \(11\)"):
            await opened.read(["r100"])


@only("libmodbus-rtu")
async def test_a_unit_that_is_not_on_the_line(device: Device) -> None:
    """Nobody answers, and nobody's answer is taken for another's.

    libmodbus takes the next request on the line for the absent unit's answer, and passes over it.
    """
    away = device.connection(unit=7, timeout=timedelta(seconds=0.3), late=timedelta(seconds=0.1))
    async with modbus.open_device(away) as opened:
        with pytest.raises(errors.DeviceTimeout):
            await opened.read(["r100"])
    there = device.connection(timeout=timedelta(seconds=2), late=timedelta(seconds=0.1))
    found: dict[str, Any] = {}
    async with modbus.open_device(there) as opened:
        for name in ("r103", "r106", "r109", "r112"):
            with contextlib.suppress(errors.DeviceTimeout):
                found[name] = (await opened.read([name]))[0].value
    assert found.items() <= {"r103": 1103, "r106": 1106, "r109": 1109, "r112": 1112}.items()
    assert "r112" in found
