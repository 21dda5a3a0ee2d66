"""Typed tag maps: names for registers and coils, and how their words become values. Pure."""

from __future__ import annotations

import csv
import math
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from smartops.drivers.readings import Value
from smartops.errors import BadInput

Area = Literal["coil", "discrete", "input", "holding"]
Kind = Literal["bool", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "string"]
Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]

_FORMATS = {
    "u16": "H",
    "i16": "h",
    "u32": "I",
    "i32": "i",
    "u64": "Q",
    "i64": "q",
    "f32": "f",
    "f64": "d",
}
_BIT_AREAS = ("coil", "discrete")


class Tag(BaseModel):
    """One named value of a device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64, description="Name used in jobs.")
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
    scale: float = Field(default=1.0, description="The raw number times this is the value.")
    offset: float = Field(default=0.0, description="Added after scaling.")
    unit: str = Field(default="", max_length=32, description="Unit of the value.")
    min: float | None = Field(
        default=None, allow_inf_nan=False, description="Lowest value that may be written."
    )
    max: float | None = Field(
        default=None, allow_inf_nan=False, description="Highest value that may be written."
    )
    allow_write: bool = Field(default=False, description="Whether jobs may write it.")
    effect: Literal["idempotent", "unsafe"] = Field(
        default="unsafe",
        description="What writing the same value twice would do: idempotent for a setpoint, "
        "unsafe for a pulse or a command word.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.area in _BIT_AREAS and (self.kind != "bool" or self.bit is not None):
            raise ValueError(f"a {self.area} is a bool without a bit number")
        if self.order != "ABCD" and self.order not in self._useful_orders():
            raise ValueError(f"order {self.order} has no effect on a {self.kind} here")
        if self.kind in {"bool", "string"} and (self.min is not None or self.max is not None):
            raise ValueError(f"a {self.kind} has no min and no max")
        if self.area not in _BIT_AREAS and (self.kind == "bool") != (self.bit is not None):
            raise ValueError("in a register, bool and bit go together")
        if (self.kind == "string") != (self.length > 0):
            raise ValueError("string and length go together")
        if self.scale == 0 or not math.isfinite(self.scale) or not math.isfinite(self.offset):
            raise ValueError("scale must be a finite number and not 0, offset a finite number")
        if self.scaled and self.kind in {"bool", "string"}:
            raise ValueError(f"a {self.kind} has no scale and no offset")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        if self.allow_write and self.area in {"discrete", "input"}:
            raise ValueError(f"a {self.area} cannot be written: the protocol has no way")
        if self.allow_write and self.bit is not None:
            raise ValueError("a single bit of a register cannot be written")
        if self.address + self.words > 65536:
            raise ValueError("the last register is above 65535")
        return self

    def _useful_orders(self) -> tuple[str, ...]:
        """Return the orders that read another value than ABCD does."""
        if self.area in _BIT_AREAS:
            return ()
        if self.kind in {"bool", "u16", "i16", "string"}:
            return ("BADC",)
        return ("CDAB", "BADC", "DCBA")

    @property
    def words(self) -> int:
        """How many registers (or coils) it fills."""
        if self.kind == "string":
            return self.length
        return struct.calcsize(_FORMATS.get(self.kind, "H")) // 2

    @property
    def scaled(self) -> bool:
        """Whether raw numbers are turned into values by scale and offset."""
        return self.scale != 1.0 or self.offset != 0.0

    def decode(self, words: Sequence[int]) -> Value:
        """Return the value of the registers; raise ValueError for what is no value."""
        raw = self._reorder(b"".join(word.to_bytes(2, "big") for word in words))
        if self.bit is not None:
            return bool((int.from_bytes(raw, "big") >> self.bit) & 1)
        if self.kind == "string":
            return raw.rstrip(b"\0 ").decode("ascii")
        number: int | float = struct.unpack(f">{_FORMATS[self.kind]}", raw)[0]
        if not math.isfinite(number):
            raise ValueError(f"the registers hold {number}, no number")
        if self.kind == "f32":
            number = _shortest_f32(number)
        return round(number * self.scale + self.offset, 10) if self.scaled else number

    def encode(self, value: Value) -> list[int]:
        """Return the registers for a value; raise ValueError when it does not fit."""
        if self.kind == "string":
            if not isinstance(value, str):
                raise ValueError(f"{value!r} is no text")
            raw = value.encode("ascii")
            if len(raw) > self.length * 2:
                raise ValueError(f"{value!r} is longer than {self.length * 2} characters")
            raw = raw.ljust(self.length * 2, b"\0")
        else:
            raw = self._pack(value)
        raw = self._reorder(raw)
        return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]

    def _pack(self, value: Value) -> bytes:
        if isinstance(value, (bool, str)) or not math.isfinite(value):
            raise ValueError(f"{value!r} is no number")
        raw = (value - self.offset) / self.scale if self.scaled else value
        if self.kind not in {"f32", "f64"}:
            nearest = round(raw)
            if not self.scaled and nearest != raw:
                raise ValueError(f"{value} is no whole number")
            raw = nearest
        try:
            return struct.pack(f">{_FORMATS[self.kind]}", raw)
        except (struct.error, OverflowError):
            raise ValueError(f"{value} does not fit into {self.kind}") from None

    def _reorder(self, raw: bytes) -> bytes:
        """Turn device order into big-endian, or back: each order is its own inverse."""
        if self.order in {"BADC", "DCBA"}:
            raw = b"".join(raw[i : i + 2][::-1] for i in range(0, len(raw), 2))
        if self.order in {"CDAB", "DCBA"} and self.kind != "string":
            raw = b"".join(raw[i : i + 2] for i in range(len(raw) - 2, -1, -2))
        return raw

    def check_write(self, value: Value) -> None:
        """Raise ValueError when the value may not be written to this tag."""
        if not self.allow_write:
            raise ValueError("the tag map does not allow writing it (allow_write)")
        if self.kind == "bool":
            if not isinstance(value, bool):
                raise ValueError(f"{value!r} is neither true nor false")
            return
        held = self.decode(self.encode(value))  # what the registers can hold of it
        if isinstance(held, (int, float)) and isinstance(value, (int, float)):
            if self.min is not None and min(held, value) < self.min:
                raise ValueError(f"{value} {self.unit} is below the limit of {self.min}".strip())
            if self.max is not None and max(held, value) > self.max:
                raise ValueError(f"{value} {self.unit} is above the limit of {self.max}".strip())


def _shortest_f32(number: float) -> float:
    """Return the shortest decimal that is the same 32-bit number: 64.09, not 64.08999633789062."""
    exact = struct.pack(">f", number)
    for digits in range(6, 9):
        short = float(f"{number:.{digits}g}")
        if struct.pack(">f", short) == exact:
            return short
    return number


_TAGS = TypeAdapter(tuple[Tag, ...])


def check_unique(tags: Iterable[Tag]) -> None:
    """Raise ValueError when two tags have one name."""
    seen: set[str] = set()
    for tag in tags:
        if tag.name in seen:
            raise ValueError(f"tag {tag.name!r} is given twice")
        seen.add(tag.name)


def load_tags(path: Path) -> tuple[Tag, ...]:
    """Return the tags of a YAML file (a list) or a CSV file (a header, a tag per line).

    Raises BadInput, naming file and tag.
    """
    try:
        rows = _csv_rows(path) if path.suffix == ".csv" else yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    try:
        tags = _TAGS.validate_python(rows)
        check_unique(tags)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}: tag {where}: {first['msg']}") from None
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    return tags


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return [{k: v for k, v in row.items() if v != ""} for row in csv.DictReader(lines)]
