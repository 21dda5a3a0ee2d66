from __future__ import annotations

import math
import struct
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartops.drivers.block_reading import BlockReader
from smartops.drivers.coalesce import plan_reads
from smartops.drivers.readings import Reading
from smartops.drivers.registers import FLOATS, WORDS
from smartops.drivers.tags import Tag

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
_LIMITS = {"bcd16": 9_999, "bcd32": 99_999_999, "f16": 1000}


@st.composite
def tags_with_values(draw: st.DrawFn) -> tuple[dict[str, Any], Any]:
    """A tag of any form, without name and address, and a value that it can hold."""
    kind = draw(st.sampled_from(sorted(WORDS)))
    orders = ["ABCD", "BADC"] if WORDS[kind] < 2 else ["ABCD", "CDAB", "BADC", "DCBA"]
    fields: dict[str, Any] = {"kind": kind, "order": draw(st.sampled_from(orders))}
    if kind == "string":
        text = draw(st.text(st.characters(codec="ascii", exclude_characters="\0 "), max_size=6))
        return {**fields, "length": 3}, text
    if kind == "bool":
        return {**fields, "bit": draw(st.integers(0, 15))}, draw(st.booleans())
    whole = st.integers(0, _LIMITS.get(kind, 20_000))
    form = draw(st.sampled_from(["plain", "scaled", "enum", "array", "not available"]))
    if form == "enum" and kind not in FLOATS:
        return {**fields, "enum": {"off": 0, "on": 9}}, draw(st.sampled_from(["off", "on"]))
    if form == "array":
        values = draw(st.lists(whole, min_size=2, max_size=4))
        return {**fields, "count": len(values)}, values
    if form == "scaled":
        return {**fields, "scale": 0.5, "offset": -3.0}, draw(whole) * 0.5 - 3.0
    missing = {"not_available": (20_001,)} if form == "not available" and kind[0] in "iu" else {}
    return {**fields, **missing}, draw(whole)


@given(st.lists(st.tuples(tags_with_values(), st.integers(0, 12)), min_size=1, max_size=30))
def test_a_blocks_answer_is_each_tags_value(
    rows: list[tuple[tuple[dict[str, Any], Any], int]],
) -> None:
    """Whatever stands beside it in the request, in any form and order, wherever it begins."""
    words, tags, wanted = [0xFFFF] * 2000, [], {}
    address = 0
    for number, ((fields, value), gap) in enumerate(rows):
        tag = Tag(name=f"t{number}", address=address + gap, unit="bar", **fields)
        place = slice(tag.address, tag.address + tag.words)
        held = tag.encode(value)
        if tag.bit is not None:
            mask = 1 << (tag.bit ^ 8 if tag.order == "BADC" else tag.bit)
            held = [mask if value else 0xFFFF & ~mask]
        words[place] = held
        address = place.stop
        tags.append(tag)
        wanted[tag.name] = value
    data = struct.pack(f">{len(words)}H", *words)
    found = {}
    for block in plan_reads(tags):
        reader = BlockReader.of(block)
        start = 2 * block.address
        for reading in reader.readings(data[start : start + reader.size], NOW):
            found[reading.tag] = reading
    assert found == {
        name: Reading(name, value, "bar", "good", "", NOW) for name, value in wanted.items()
    }


@given(st.lists(st.booleans(), min_size=1, max_size=300), st.data())
def test_coils_are_read_bit_by_bit(bits: list[bool], data: st.DataObject) -> None:
    """The first is the lowest bit of the first byte; single ones and rows of them."""
    first = data.draw(st.integers(0, len(bits) - 1))
    count = data.draw(st.integers(1, len(bits) - first))
    start = Tag(name="start", area="coil", kind="bool", address=0)
    row = Tag(name="row", area="coil", kind="bool", address=first, count=count, overlap=True)
    [block] = plan_reads([start, row], max_gap=2000)
    reader = BlockReader.of(block)
    packed = sum(bit << place for place, bit in enumerate(bits)).to_bytes(38, "little")
    found = {r.tag: r.value for r in reader.readings(packed[: reader.size], NOW)}
    expected = bits[first : first + count]
    assert found == {"start": bits[0], "row": expected if count > 1 else expected[0]}


def test_what_is_no_value_harms_no_other() -> None:
    """It is bad and says why; its neighbours are good, and all have one time."""
    tags = (
        Tag(name="nan", kind="f32", address=0),
        Tag(name="digits", kind="bcd16", address=2),
        Tag(name="text", kind="string", length=1, address=3),
        Tag(name="level", address=4),
    )
    [block] = plan_reads(tags)
    data = struct.pack(">fH2sH", math.nan, 0x00A2, b"\xff\xff", 7)
    readings = {r.tag: r for r in BlockReader.of(block).readings(data, NOW)}
    assert {r.received_at for r in readings.values()} == {NOW}
    assert readings["level"] == Reading("level", 7, "", "good", "", NOW)
    for name, why in (("nan", "no number"), ("digits", "decimal"), ("text", "ascii")):
        assert (readings[name].value, readings[name].quality) == (None, "bad")
        assert why in readings[name].reason


def test_a_reading_stays_as_it_is() -> None:
    """It is frozen, and a changed one is another."""
    reading = Reading("t", 1, "", "good", "", NOW)
    with pytest.raises(AttributeError):
        reading.value = 2  # type: ignore[misc]
    assert replace(reading, quality="uncertain") == Reading("t", 1, "", "uncertain", "", NOW)
    assert replace(reading, source_at=NOW) != reading
