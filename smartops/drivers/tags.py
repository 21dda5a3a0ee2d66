"""Modbus tag maps: names for registers and coils, and how their words become values. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from smartops.drivers.device_tag import DeviceTag, check_names
from smartops.drivers.readings import Value
from smartops.drivers.registers import (
    FLOATS,
    FORMATS,
    WORDS,
    Decoder,
    Encoding,
    Form,
    Kind,
    Order,
    decoder,
    swapped_bytes,
)

Area = Literal["coil", "discrete", "input", "holding"]
BIT_AREAS = ("coil", "discrete")
Rules = Iterator[tuple[bool, str]]
"""What is wrong, and why, where it is."""
_MOST_WORDS = 125
_MOST_BITS = 2000
_MOST_WRITTEN = {"holding": 123, "coil": 1968}


class Tag(DeviceTag):
    """One named value of a Modbus device."""

    area: Area = Field(default="holding", description="Which table of the device holds it.")
    address: int = Field(
        ge=0, le=65535, description="Address as on the wire, counted from 0 (40001 is 0)."
    )
    kind: Kind = Field(default="u16", description="How its words are read.")
    order: Order = Field(
        default="ABCD",
        description="Order of the bytes; ABCD is big-endian, CDAB has its words swapped.",
    )
    bit: int | None = Field(
        default=None, ge=0, le=15, description="For a bool in a register: which bit, 0 the lowest."
    )
    length: int = Field(
        default=0, ge=0, le=125, description="For a string: how many registers it fills."
    )
    encoding: Encoding = Field(default="ascii", description="For a string: how it is encoded.")
    count: int = Field(
        default=1, ge=1, le=2000, description="How many values stand one after another: an array."
    )
    scale: float = Field(default=1.0, description="The raw number times this is the value.")
    offset: float = Field(default=0.0, description="Added after scaling.")
    not_available: tuple[int, ...] = Field(
        default=(),
        description="Raw numbers that mean that there is no value, such as 65535 or 0x8000.",
    )
    overlap: bool = Field(
        default=False, description="Whether it shares registers with other tags on purpose."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for wrong, why in (*self._rules_of_form(), *self._rules_of_value(), *self._rules_of_size()):
            if wrong:
                raise ValueError(why)
        return self

    def _rules_of_form(self) -> Rules:
        """Return what is wrong with how its words are read."""
        in_bits, bits = self.area in BIT_AREAS, self.kind == "bool"
        yield in_bits and not (bits and self.bit is None), f"a {self.area} is a bool without a bit"
        yield (
            not in_bits and bits != (self.bit is not None),
            "in a register, bool and bit go together",
        )
        yield (self.kind == "string") != (self.length > 0), "string and length go together"
        yield self.kind != "string" and self.encoding != "ascii", "encoding goes with a string"
        useful = self.order == "ABCD" or self.order in self._useful_orders()
        yield not useful, f"order {self.order} has no effect on a {self.kind} here"
        single = self.kind == "string" or self.bit is not None or bool(self.enum)
        yield self.count > 1 and single, "an array is of numbers or coils, without an enum"

    def _rules_of_value(self) -> Rules:
        """Return what is wrong with what its number means."""
        plain = self.kind in {"bool", "string"}
        limited = (self.min, self.max, self.max_step) != (None, None, None)
        yield plain and limited, f"a {self.kind} has no min, max and max_step"
        named = bool(self.enum or self.not_available)
        yield plain and named, f"a {self.kind} has no enum and no not_available"
        finite = self.scale != 0 and math.isfinite(self.scale) and math.isfinite(self.offset)
        yield not finite, "scale must be a finite number and not 0, offset a finite number"
        yield plain and self.scaled, f"a {self.kind} has no scale and no offset"
        whole = self.kind not in FLOATS
        yield (
            bool(self.enum) and not (whole and not self.scaled),
            "an enum is for whole numbers without scale and offset",
        )
        yield bool(self.not_available) and not whole, "not_available is for whole numbers"
        yield self.count > 1 and self.max_step is not None, "an array has no max_step"
        yield (
            bool(self.deadband) and (plain or self.count > 1 or bool(self.enum)),
            "a deadband is for a number",
        )

    def _rules_of_size(self) -> Rules:
        """Return what is wrong with where it lies."""
        most = _MOST_BITS if self.area in BIT_AREAS else _MOST_WORDS
        yield self.words > most, "it is longer than one request can read"
        read_only = self.area in {"discrete", "input"}
        no_way = f"a {self.area} cannot be written: the protocol has no way"
        yield self.allow_write and read_only, no_way
        writable = _MOST_WRITTEN.get(self.area, most)
        what = "coils" if self.area == "coil" else "registers"
        too_long = self.allow_write and self.words > writable
        yield too_long, f"one request can write {writable} {what}"
        yield self.address + self.words > 65536, "the last register is above 65535"

    def _useful_orders(self) -> tuple[str, ...]:
        """Return the orders that read another value than ABCD does."""
        if self.area in BIT_AREAS:
            return ()
        if WORDS[self.kind] < 2:
            return ("BADC",)
        return ("CDAB", "BADC", "DCBA")

    @property
    def words(self) -> int:
        """How many registers (or coils) it fills."""
        return self.length or WORDS[self.kind] * self.count

    @property
    def scaled(self) -> bool:
        """Whether raw numbers are turned into values by scale and offset."""
        return self.scale != 1.0 or self.offset != 0.0

    @property
    def decoder(self) -> Decoder:
        """What reads its value out of the bytes of an answer."""
        return decoder(
            Form(
                self.area in BIT_AREAS,
                self.kind,
                self.order,
                self.bit,
                self.length,
                self.encoding,
                self.count,
                self.scale,
                self.offset,
                self.not_available,
                tuple(self.enum.items()),
            )
        )

    def decode(self, words: Sequence[int]) -> Value:
        """Return the value of the registers or coils; raise ValueError for what is no value."""
        if self.area in BIT_AREAS:
            bits = sum(bool(word) << place for place, word in enumerate(words))
            return self.decoder(bits.to_bytes(-(-len(words) // 8), "little"), 0)
        return self.decoder(b"".join(word.to_bytes(2, "big") for word in words), 0)

    def encode(self, value: Value) -> list[int]:
        """Return the registers for a value; raise ValueError when it does not fit."""
        if self.kind == "bool":
            return [int(bit is True) for bit in self._items(value)]
        if self.kind == "string":
            if not isinstance(value, str):
                raise ValueError(f"{value!r} is no text")
            raw = value.encode(self.encoding)
            if len(raw) > self.length * 2:
                raise ValueError(f"{value!r} is longer than {self.length * 2} bytes")
            blank = "\0".encode(self.encoding)
            raw = self._reorder(raw + blank * ((self.length * 2 - len(raw)) // len(blank)))
        else:
            raw = b"".join(self._reorder(self._pack(item)) for item in self._items(value))
        return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]

    def _items(self, value: Value) -> list[Value]:
        if self.count == 1:
            items: list[Value] = [value]
        elif isinstance(value, list) and len(value) == self.count:
            items = list(value)
        else:
            raise ValueError(f"{value!r} is no list of {self.count} values")
        if self.kind == "bool":
            for item in items:
                if not isinstance(item, bool):
                    raise ValueError(f"{item!r} is neither true nor false")
        return items

    def _pack(self, value: Value) -> bytes:
        value = self.number(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{value!r} is no number")
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is no number")
        raw = (value - self.offset) / self.scale if self.scaled else value
        if self.kind not in FLOATS:
            nearest = round(raw)
            if not self.scaled and nearest != raw:
                raise ValueError(f"{value} is no whole number")
            raw = nearest
        try:
            if self.kind in {"bcd16", "bcd32"}:
                raw = int(str(raw), 16) if raw >= 0 else -1
            return struct.pack(f">{FORMATS[self.kind]}", raw)
        except (struct.error, OverflowError):
            raise ValueError(f"{value} does not fit into {self.kind}") from None

    def _reorder(self, raw: bytes) -> bytes:
        """Turn device order into big-endian, or back: each order is its own inverse."""
        if self.order in {"BADC", "DCBA"}:
            raw = swapped_bytes(raw)
        if self.order in {"CDAB", "DCBA"} and self.kind != "string":
            raw = b"".join(raw[i : i + 2] for i in range(len(raw) - 2, -1, -2))
        return raw

    def nearest(self, value: Value) -> Value:
        """Return what the registers can hold of a value; raise ValueError when it does not fit."""
        encoded = self.encode(value)
        return value if self.kind == "bool" else self.decode(encoded)


def check_map(
    tags: Iterable[Tag], *, max_registers: int = _MOST_WORDS, max_bits: int = _MOST_BITS
) -> None:
    """Raise ValueError when two tags have one name, or share registers without saying so.

    And when a tag is longer than what the device allows in one request: it is read and written as
    a whole, so that its parts are of one moment.
    """
    found = list(tags)
    check_names(found)
    for tag in found:
        most = max_bits if tag.area in BIT_AREAS else max_registers
        if tag.words > most:
            raise ValueError(
                f"tag {tag.name!r} takes {tag.words} {tag.area} addresses, and one request has "
                f"{most} at the most: make several tags of it"
            )
    furthest: Tag | None = None
    for tag in sorted(found, key=lambda tag: (tag.area, tag.address, -tag.words)):
        if furthest is not None and furthest.area == tag.area and tag.address < _end(furthest):
            both_bits = tag.bit is not None and furthest.bit is not None
            if not both_bits and not (tag.overlap or furthest.overlap):
                raise ValueError(
                    f"tags {furthest.name!r} and {tag.name!r} share {tag.area} {tag.address}; "
                    "say overlap: true at one of them if that is meant"
                )
        if furthest is None or furthest.area != tag.area or _end(tag) > _end(furthest):
            furthest = tag


def _end(tag: Tag) -> int:
    return tag.address + tag.words
