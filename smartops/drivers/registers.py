"""How registers and coils become values: a decoder for each form of tag, made once. Pure."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

from smartops.drivers.device_tag import name_of, shortest_f32
from smartops.drivers.readings import Value

Kind = Literal[
    "bool",
    "u16",
    "i16",
    "u32",
    "i32",
    "u64",
    "i64",
    "f16",
    "f32",
    "f64",
    "bcd16",
    "bcd32",
    "string",
]
Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]
Encoding = Literal["ascii", "latin-1", "utf-8", "utf-16-be"]
Decoder = Callable[[bytes, int], Value]
"""Takes what a request brought, and where in it a value begins; raises ValueError for what is none.

Where: the byte in registers, the bit in coils, each counted from 0.
"""

FORMATS = {
    "bool": "H",
    "u16": "H",
    "i16": "h",
    "u32": "I",
    "i32": "i",
    "u64": "Q",
    "i64": "q",
    "f16": "e",
    "f32": "f",
    "f64": "d",
    "bcd16": "H",
    "bcd32": "I",
}
"""How ``struct`` calls what one value of a kind is; a bool is one bit of a register."""
WORDS = {"string": 0, **{kind: struct.calcsize(form) // 2 for kind, form in FORMATS.items()}}
"""How many registers one value fills; a string says it itself."""
FLOATS = ("f16", "f32", "f64")
_DECIMALS = ("bcd16", "bcd32")


class Form(NamedTuple):
    """All that says how a tag's registers are read; tags of one form share a decoder."""

    in_bits: bool
    kind: Kind
    order: Order
    bit: int | None
    length: int
    encoding: Encoding
    items: int
    scale: float
    offset: float
    not_available: tuple[int, ...]
    enum: tuple[tuple[str, int], ...]


@lru_cache(maxsize=4096)
def decoder(form: Form) -> Decoder:
    """Return what reads the values of a form."""
    if form.kind == "string":
        return _text(form)
    one = _coil if form.in_bits else _number(form)
    if form.items == 1:
        return one
    return _array(one, form.items, 1 if form.in_bits else 2 * WORDS[form.kind])


def _array(one: Decoder, count: int, step: int) -> Decoder:
    def array(data: bytes, at: int) -> Value:
        return [one(data, place) for place in range(at, at + count * step, step)]

    return array


def _coil(data: bytes, at: int) -> Value:
    return bool(data[at >> 3] >> (at & 7) & 1)


def _text(form: Form) -> Decoder:
    size, swapped, encoding = 2 * form.length, form.order == "BADC", form.encoding

    def text(data: bytes, at: int) -> Value:
        raw = data[at : at + size]
        if swapped:
            raw = swapped_bytes(raw)
        return raw.decode(encoding).rstrip("\0 ")

    return text


def swapped_bytes(raw: bytes) -> bytes:
    """Return the bytes with the two of each register the other way round."""
    return b"".join(raw[i : i + 2][::-1] for i in range(0, len(raw), 2))


def _number(form: Form) -> Decoder:
    raw = _raw_number(form)
    steps = _steps(form)
    if not steps:
        return raw

    def number(data: bytes, at: int) -> Value:
        value: Any = raw(data, at)
        for step in steps:
            value = step(value)
        return value  # type: ignore[no-any-return]

    return number


def _raw_number(form: Form) -> Decoder:
    """Return what takes the number out of its registers, by the order of its bytes."""
    letter, words, order = FORMATS[form.kind], WORDS[form.kind], form.order
    if order == "ABCD" or (words > 1 and order == "DCBA") or (words == 1 and order == "BADC"):
        unpack = struct.Struct(f"{'>' if order == 'ABCD' else '<'}{letter}").unpack_from

        def straight(data: bytes, at: int) -> Value:
            return unpack(data, at)[0]  # type: ignore[no-any-return]

        return straight
    split = struct.Struct(f"{'<' if order == 'BADC' else '>'}{words}H").unpack_from
    joined = struct.Struct(f">{words}H").pack
    whole = struct.Struct(f">{letter}").unpack
    turn = -1 if order == "CDAB" else 1

    def turned(data: bytes, at: int) -> Value:
        return whole(joined(*split(data, at)[::turn]))[0]  # type: ignore[no-any-return]

    return turned


def _steps(form: Form) -> tuple[Callable[[Any], Any], ...]:
    """Return what has to be done to the raw number, one after the other."""
    if form.bit is not None:
        return (partial(_bit, form.bit),)
    steps: list[Callable[[Any], Any]] = []
    if form.not_available:
        all_ones = (1 << 16 * WORDS[form.kind]) - 1
        steps.append(partial(_available, frozenset(form.not_available), all_ones))
    if form.kind in _DECIMALS:
        steps.append(_decimal)
    if form.kind in FLOATS:
        steps.append(_finite)
    if form.kind == "f32":
        steps.append(shortest_f32)
    if form.enum:
        steps.append(partial(name_of, dict(form.enum)))
    elif form.scale != 1.0 or form.offset != 0.0:
        steps.append(partial(_scaled, form.scale, form.offset))
    return tuple(steps)


def _bit(bit: int, number: int) -> bool:
    return bool(number >> bit & 1)


def _available(missing: frozenset[int], all_ones: int, number: int) -> int:
    if number in missing or number & all_ones in missing:
        raise ValueError(f"the registers hold {number}, which means that there is no value")
    return number


def _decimal(number: int) -> int:
    digits = f"{number:x}"
    if not digits.isdecimal():
        raise ValueError(f"the registers hold 0x{digits}, no binary-coded decimal")
    return int(digits)


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"the registers hold {number}, no number")
    return number


def _scaled(scale: float, offset: float, number: float) -> float:
    # 15 digits: what a number of 64 bits holds for sure, however small the scale is.
    value = float(f"{number * scale + offset:.15g}")
    if not math.isfinite(value):
        raise ValueError(f"the registers hold {number}, which is no number once it is scaled")
    return value
