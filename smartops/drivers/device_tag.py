"""What the tags of all protocols share: a name, a unit, and what may be written to it. Pure."""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from smartops.drivers.readings import Reading, Scalar, Value, is_finite

Comparison = Literal["==", "!=", "<", "<=", ">", ">="]
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_F32 = struct.Struct(">f")
_WHOLE_IN_F32 = 2**24
"""Below it a 32-bit number holds every whole number, so that none has a shorter decimal."""


class Interlock(BaseModel):
    """What another tag of the device must hold at the moment of a write."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tag: str = Field(min_length=1, description="The tag that is read just before the write.")
    op: Comparison = Field(default="==", description="How it must compare with the value.")
    value: Scalar = Field(description="The value in that tag's unit.")

    def problem(self, reading: Reading) -> str:
        """Return why the reading does not allow the write, "" where it does."""
        wanted = f"{self.tag} {self.op} {self.value}"
        if reading.quality != "good" or reading.value is None:
            return f"{wanted} is needed, and it cannot be told: {reading.reason}"
        same_kind = isinstance(reading.value, str) == isinstance(self.value, str)
        if not same_kind or isinstance(reading.value, (list, dict)):
            return f"{wanted} is needed, and {self.tag} is {reading.value!r}"
        if not _COMPARE[self.op](reading.value, self.value):
            return f"{wanted} is needed, and it is {reading.value} {reading.unit}".rstrip()
        return ""


class DeviceTag(BaseModel):
    """One named value of a device."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64, description="Name used in jobs.")
    unit: str = Field(default="", max_length=32, description="Unit of the value.")
    enum: dict[str, int] = Field(
        default_factory=dict,
        description="Names for its numbers, such as {stopped: 0, running: 1}: jobs see the names, "
        "and nothing else may be written.",
    )
    min: float | None = Field(
        default=None, allow_inf_nan=False, description="Lowest value that may be written."
    )
    max: float | None = Field(
        default=None, allow_inf_nan=False, description="Highest value that may be written."
    )
    max_step: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="How far one write may move it from the value that it holds.",
    )
    deadband: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="For watching: changes up to this are none.",
    )
    interlocks: tuple[Interlock, ...] = Field(
        default=(),
        description="What other tags must hold for a write; they are read just before it.",
    )
    approval: bool = Field(
        default=False,
        description="Whether somebody must have approved a write: an approval step of the job that "
        "the write comes behind.",
    )
    allow_write: bool = Field(default=False, description="Whether jobs may write it.")
    effect: Literal["idempotent", "unsafe"] = Field(
        default="unsafe",
        description="What writing the same value twice would do: idempotent for a setpoint, "
        "unsafe for a pulse or a command word.",
    )

    @model_validator(mode="after")
    def _limits_make_sense(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        if self.enum and len(set(self.enum.values())) < len(self.enum):
            raise ValueError("enum has two names for one number")
        if self.enum and (self.min, self.max, self.max_step) != (None, None, None):
            raise ValueError("a tag with an enum has no min, max and max_step")
        if any(lock.tag == self.name for lock in self.interlocks):
            raise ValueError("a tag cannot be its own interlock")
        asked = self.interlocks or self.max_step is not None or self.approval
        if not self.allow_write and asked:
            raise ValueError("interlocks, max_step and approval go with allow_write")
        return self

    def named(self, number: Value) -> Value:
        """Return the enum's name for a number; raise ValueError where it has none."""
        return name_of(self.enum, number) if self.enum else number

    def number(self, value: Value) -> Value:
        """Return the number for a name of the enum; raise ValueError where it is none."""
        if not self.enum:
            return value
        if not isinstance(value, str) or value not in self.enum:
            raise ValueError(f"{value!r} is none of {', '.join(self.enum)}")
        return self.enum[value]

    def nearest(self, value: Value) -> Value:
        """Return what the device can hold of a value; raise ValueError where that is nothing."""
        self.number(value)
        return value

    def check_write(self, value: Value) -> None:
        """Raise ValueError when the value may not be written, whatever is held now."""
        if not self.allow_write:
            raise ValueError("the tag map does not allow writing it (allow_write)")
        if not is_finite(value):  # no limit holds for those
            raise ValueError(f"{value} is no value that can be written")
        held = self.nearest(value)
        if (self.min, self.max) != (None, None):
            numbers = [*_numbers(held), *_numbers(value)]
            if self.min is not None and min(numbers) < self.min:
                raise ValueError(f"{value} {self.unit} is below the limit of {self.min}".strip())
            if self.max is not None and max(numbers) > self.max:
                raise ValueError(f"{value} {self.unit} is above the limit of {self.max}".strip())

    def check_step(self, value: Value, before: Value | None) -> None:
        """Raise ValueError when the value is too far from what is held now, None if unknown."""
        if self.max_step is None:
            return
        if not isinstance(before, (int, float)) or not isinstance(value, (int, float)):
            raise ValueError("what it holds is not known, so that the step cannot be limited")
        if abs(value - before) > self.max_step * (1 + 1e-9):
            raise ValueError(
                f"from {before} to {value} {self.unit} is more than the largest step of "
                f"{self.max_step}".replace("  ", " ")
            )


def _numbers(value: Any) -> list[float]:
    """Return the numbers in a value, however deep; raise ValueError for what is none."""
    if isinstance(value, list) and value:
        return [number for item in value for number in _numbers(item)]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number, and the tag has limits")
    return [value]


def name_of(enum: Mapping[str, int], number: Value) -> str:
    """Return an enum's name for a number; raise ValueError where it has none."""
    for name, known in enum.items():
        if known == number:
            return name
    raise ValueError(f"it holds {number}, which its enum does not know")


def check_names(tags: Iterable[DeviceTag]) -> None:
    """Raise ValueError when two tags have one name, or an interlock names none of them."""
    found = list(tags)
    names: set[str] = set()
    for tag in found:
        if tag.name in names:
            raise ValueError(f"tag {tag.name!r} is given twice")
        names.add(tag.name)
    for tag in found:
        for lock in tag.interlocks:
            if lock.tag not in names:
                raise ValueError(f"tag {tag.name!r} has an interlock with no tag: {lock.tag!r}")


def shortest_f32(number: float) -> float:
    """Return the shortest decimal that is the same 32-bit number: 64.09, not 64.08999633789062."""
    if number.is_integer() and abs(number) < _WHOLE_IN_F32:
        return number
    exact = _F32.pack(number)
    for digits in range(6, 9):
        short = float(f"{number:.{digits}g}")
        if _F32.pack(short) == exact:
            return short
    return number
