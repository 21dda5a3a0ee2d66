from __future__ import annotations

import copy
import math
import struct
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from blocks import ModbusDevice
from smartops.drivers import opcua_ranges
from smartops.drivers.coalesce import MAX_WORDS, plan_reads
from smartops.drivers.device_tag import Interlock
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.readings import Reading
from smartops.drivers.tag_files import load_map, load_tags
from smartops.drivers.tags import Tag, check_map
from smartops.errors import BadInput


def tag(**fields: Any) -> Tag:
    return Tag.model_validate({"name": "t", "address": 0, **fields})


def test_byte_orders() -> None:
    """0x01020304 lies in the registers as each order says."""
    value = 0x01020304
    words = {
        "ABCD": [0x0102, 0x0304],
        "CDAB": [0x0304, 0x0102],
        "BADC": [0x0201, 0x0403],
        "DCBA": [0x0403, 0x0201],
    }
    for order, expected in words.items():
        assert tag(kind="u32", order=order).encode(value) == expected
        assert tag(kind="u32", order=order).decode(expected) == value


INTEGERS = {
    f"{sign}{bits}": (0, 2**bits) if sign == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    for sign in "ui"
    for bits in (16, 32, 64)
}


@given(
    st.sampled_from(sorted(INTEGERS)), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]), st.data()
)
def test_integers_survive(kind: str, order: str, data: st.DataObject) -> None:
    """Every integer of every type comes back; the next one outside is refused."""
    order = order if kind.endswith(("32", "64")) or order == "BADC" else "ABCD"
    low, high = INTEGERS[kind]
    made = tag(kind=kind, order=order)
    value = data.draw(st.integers(low, high - 1))
    assert made.decode(made.encode(value)) == value
    for outside in (low - 1, high):
        with pytest.raises(ValueError, match="does not fit"):
            made.encode(outside)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_f32_reads_as_its_shortest_decimal(value: float) -> None:
    """The value read is the same 32-bit number, in the fewest digits."""
    made = tag(kind="f32")
    read = made.decode(made.encode(value))
    assert isinstance(read, float)
    assert struct.pack(">f", read) == struct.pack(">f", value)
    assert len(repr(read)) <= len(repr(value))


def test_no_number_is_no_value() -> None:
    """NaN and infinity in the registers are an error, and cannot be written."""
    made = tag(kind="f32")
    for value in (math.nan, math.inf):
        words = list(struct.unpack(">2H", struct.pack(">f", value)))
        with pytest.raises(ValueError, match="no number"):
            made.decode(words)
        with pytest.raises(ValueError, match="no number"):
            made.encode(value)


def test_bits_count_from_the_lowest() -> None:
    """Bit 0 of 0x0001 is set, and bit 8 is not: pymodbus's own order is the other way round."""
    assert tag(kind="bool", bit=0).decode([0x0001]) is True
    assert tag(kind="bool", bit=8).decode([0x0001]) is False
    assert tag(kind="bool", bit=15).decode([0x8000]) is True


def test_strings_and_scale() -> None:
    """Padding is cut, what is too long is refused; a scaled value is rounded to what is held."""
    text = tag(kind="string", length=3)
    assert text.decode(text.encode("AB")) == "AB"
    with pytest.raises(ValueError, match="longer"):
        text.encode("ABCDEFG")
    level = tag(kind="u16", scale=0.1)
    assert level.decode([524]) == 52.4
    assert level.encode(52.44) == [524]
    assert tag(kind="u16", scale=1e-11).decode([4]) == 4e-11
    huge = tag(kind="f64", scale=10.0)
    with pytest.raises(ValueError, match="once it is scaled"):
        huge.decode(list(struct.unpack(">4H", struct.pack(">d", 1e308))))


@pytest.mark.parametrize(
    "fields",
    [
        {"area": "coil", "kind": "u16"},
        {"kind": "bool"},
        {"kind": "u16", "bit": 3},
        {"kind": "string"},
        {"kind": "u16", "scale": 0},
        {"kind": "u16", "min": 2, "max": 1},
        {"area": "input", "allow_write": True},
        {"area": "input", "kind": "bool", "bit": 1, "allow_write": True},
        {"kind": "u16", "count": 126},
        {"kind": "u16", "count": 124, "allow_write": True},
        {"area": "coil", "kind": "bool", "count": 1969, "allow_write": True},
        {"kind": "string", "length": 2, "count": 2},
        {"kind": "u16", "encoding": "utf-8"},
        {"kind": "u16", "enum": {"on": 1, "an": 1}},
        {"kind": "u16", "enum": {"on": 1}, "scale": 2},
        {"kind": "f32", "not_available": [1]},
        {"kind": "u16", "max_step": 5},
        {"kind": "u16", "allow_write": True, "interlocks": [{"tag": "t", "value": 1}]},
        {"kind": "u16", "approval": True},
        {"kind": "string", "length": 1, "deadband": 1},
        {"kind": "f64", "address": 65535},
        {"kind": "u16", "colour": "red"},
        {"name": "Tank Level"},
    ],
)
def test_a_tag_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    """Contradictions are found when the map is loaded."""
    with pytest.raises(ValidationError):
        tag(**fields)


@pytest.mark.parametrize(
    ("value", "said"), [(9, "below"), (101, "above"), ("x", "no number"), (2.5, "whole")]
)
def test_write_limits(value: Any, said: str) -> None:
    """A value outside of the limits, or of another kind, never leaves the program."""
    made = tag(kind="u16", allow_write=True, min=10 if value != 2.5 else 0, max=100)
    with pytest.raises(ValueError, match=said):
        made.check_write(value)


def test_writing_is_off_unless_allowed() -> None:
    """The tag map has to say that a tag may be written."""
    with pytest.raises(ValueError, match="allow_write"):
        tag().check_write(1)


def test_maps_from_yaml_and_csv(tmp_path: Path) -> None:
    """Both give the same tags; a wrong cell names the tag."""
    (tmp_path / "a.csv").write_text("name,area,address,kind,scale\nlevel,input,3,u16,0.1\n")
    (tmp_path / "a.yaml").write_text(
        "- {name: level, area: input, address: 3, kind: u16, scale: 0.1}"
    )
    assert load_tags(tmp_path / "a.csv") == load_tags(tmp_path / "a.yaml")
    for name, text in [
        ("b.csv", "name,address\nlevel,x\n"),
        ("b.yaml", "- {name: a, address: 1}\n- {name: a, address: 2}"),
        ("c.yaml", "just a text"),
        ("d.yaml", "a: ["),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(BadInput, match=name):
            load_tags(tmp_path / name)


@given(
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from(["u16", "f32", "u64"])), min_size=1),
    st.integers(0, 20),
    st.integers(4, MAX_WORDS),
    st.sampled_from(["holding", "coil"]),
)
def test_blocks_cover_every_tag_and_keep_the_limits(
    rows: list[tuple[int, str]], max_gap: int, most: int, area: str
) -> None:
    """Each tag is wholly in one block; no block is too long; two neighbours could not be merged."""
    bits = {"u16": 1, "f32": 2, "u64": 4}
    tags = [
        tag(name=f"t{n}", address=a, kind=k)
        if area == "holding"
        else tag(name=f"t{n}", address=a, kind="bool", count=bits[k], area=area)
        for n, (a, k) in enumerate(rows)
    ]
    limits: Any = {"max_registers": most} if area == "holding" else {"max_bits": most}
    check_map((t.model_copy(update={"overlap": True}) for t in tags), **limits)
    blocks = plan_reads(tags, max_gap=max_gap, **limits)
    assert sorted(t.name for b in blocks for t in b.tags) == sorted(t.name for t in tags)
    for block in blocks:
        assert 0 < block.count <= most
        for member in block.tags:
            assert block.address <= member.address
            assert member.address + member.words <= block.address + block.count
    for left, right in pairwise(blocks):
        gap = right.address - (left.address + left.count)
        first = min(right.tags, key=lambda t: (t.address, t.words))
        whole = max(left.address + left.count, first.address + first.words) - left.address
        assert gap > max_gap or whole > most


def test_what_else_registers_may_hold() -> None:
    """Half floats, binary-coded decimals, names, numbers that mean nothing, other alphabets."""
    assert tag(kind="f16").decode(tag(kind="f16").encode(1.5)) == 1.5
    assert tag(kind="bcd32").encode(12345678) == [0x1234, 0x5678]
    assert tag(kind="bcd16").decode([0x0042]) == 42
    with pytest.raises(ValueError, match="decimal"):
        tag(kind="bcd16").decode([0x00A2])
    with pytest.raises(ValueError, match="does not fit"):
        tag(kind="bcd16").encode(10000)
    state = tag(enum={"stopped": 0, "running": 1})
    assert (state.decode([1]), state.encode("stopped")) == ("running", [0])
    with pytest.raises(ValueError, match="does not know"):
        state.decode([7])
    missing = tag(kind="i16", not_available=(0x8000, 32767))
    for word in (0x8000, 0x7FFF):
        with pytest.raises(ValueError, match="no value"):
            missing.decode([word])
    assert missing.decode([0xFFFF]) == -1
    for encoding, text in (("latin-1", "Fäß"), ("utf-8", "Fäß"), ("utf-16-be", "Fäß")):
        name = tag(kind="string", length=4, encoding=encoding)
        assert name.decode(name.encode(text)) == text


@pytest.mark.parametrize(
    ("fields", "limits"),
    [
        ({"kind": "u16", "count": 21}, {"max_registers": 20}),
        ({"kind": "string", "length": 21}, {"max_registers": 20}),
        ({"kind": "f64"}, {"max_registers": 3}),
        ({"kind": "bool", "area": "coil", "count": 9}, {"max_bits": 8}),
    ],
)
def test_a_tag_that_no_request_has_room_for(fields: dict[str, Any], limits: Any) -> None:
    """Is refused with the map: cut up, its parts would be of two moments."""
    made = tag(**fields)
    check_map([made])
    with pytest.raises(ValueError, match="make several tags of it"):
        check_map([made], **limits)
    with pytest.raises(ValueError, match="make several tags of it"):
        ModbusDevice(host="h", tags=[made], **limits)


def test_a_map_whose_tags_overlap_is_refused() -> None:
    """Unless they are bits of one register, or it is said that it is meant."""
    long = tag(name="long", kind="u32", address=10)
    low = tag(name="low", kind="u16", address=11)
    with pytest.raises(ValueError, match="'long' and 'low' share holding 11"):
        check_map([low, long])
    check_map([long, tag(name="low", address=11, overlap=True)])
    check_map([tag(name=f"b{n}", kind="bool", bit=n) for n in range(16)])
    check_map([long, tag(name="other", kind="u16", area="input", address=11)])
    with pytest.raises(ValueError, match="no tag: 'door'"):
        check_map([tag(allow_write=True, interlocks=[{"tag": "door", "value": 1}])])


@pytest.mark.parametrize(
    ("op", "held"),
    [("==", {5}), ("!=", {4, 6}), ("<", {4}), ("<=", {4, 5}), (">", {6}), (">=", {5, 6})],
)
def test_how_an_interlock_compares(op: Any, held: set[int]) -> None:
    """What the other tag holds stands on the left."""
    lock = Interlock(tag="level", op=op, value=5)
    readings = [Reading("level", n, "", "good", "", datetime.now(UTC)) for n in (4, 5, 6)]
    assert {reading.value for reading in readings if not lock.problem(reading)} == held


def test_maps_as_plc_tools_export_them(tmp_path: Path) -> None:
    """Semicolons, blanks around the names, and columns that hold YAML."""
    (tmp_path / "a.csv").write_text(
        "name; address;kind;enum;not_available\n"
        "state;3;u16;{off: 0, on: 1};\nflow;4;i16;;[-32768]\n"
    )
    assert load_tags(tmp_path / "a.csv") == (
        tag(name="state", address=3, enum={"off": 0, "on": 1}),
        tag(name="flow", address=4, kind="i16", not_available=(-32768,)),
    )


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0, math.nan], {"a": -math.inf}])
def test_what_is_no_number_is_never_written(value: Any) -> None:
    """No limit holds for it: every comparison with it is false."""
    limited = OpcTag(name="speed", node="ns=2;s=x", allow_write=True, min=0, max=100)
    with pytest.raises(ValueError, match="no value that can be written"):
        limited.check_write(value)


@pytest.mark.parametrize("text", ["5:2", "2:2", "a", "1:", ",1", "-1", "1,2,"])
def test_what_is_no_range(text: str) -> None:
    """Is refused with the tag map."""
    with pytest.raises(ValueError, match=r"larger one|pattern"):
        OpcTag(name="a", node="i=1", index_range=text)


def test_a_range_of_one_number(tmp_path: Path) -> None:
    """Need not be put into quotes."""
    (tmp_path / "a.yaml").write_text("- {name: a, node: i=85, index_range: 3}")
    [found] = load_map(tmp_path / "a.yaml", OpcTag)
    assert found.index_range == "3"


@given(data=st.data(), shape=st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_parts_of_arrays_fit_together(data: st.DataObject, shape: list[int]) -> None:
    """What is picked of an array fits its range, goes back as it came, and is nothing else's."""
    whole: Any = 0
    for count in reversed(shape):
        whole = [copy.deepcopy(whole) for _ in range(count)]
    texts = []
    for count in shape:
        first = data.draw(st.integers(0, count - 1))
        last = data.draw(st.integers(first, count - 1))
        texts.append(f"{first}" if last == first else f"{first}:{last}")
    spans = opcua_ranges.parse(",".join(texts))
    part = opcua_ranges.picked(whole, spans)
    value = opcua_ranges.fitted(part, spans)
    assert opcua_ranges.widened(value, spans) == part
    for wrong in ([*part, part[0]], part[:-1], None):
        with pytest.raises(ValueError, match=r"asked for|no array"):
            opcua_ranges.fitted(wrong, spans)
