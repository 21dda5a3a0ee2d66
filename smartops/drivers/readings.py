"""What a device said: a value with its unit, its quality and its times."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

Scalar = bool | int | float | str
Value = Scalar | list[Any] | dict[str, Any]
"""A single value; a list for an array; an object for a structure."""
Quality = Literal["good", "uncertain", "bad"]


@dataclass(frozen=True, init=False)
class Reading:
    """One value of one tag. ``value`` is None only where the quality is bad."""

    tag: str
    value: Value | None
    unit: str
    quality: Quality
    reason: str
    """Why the quality is not good; empty when it is."""
    received_at: datetime
    """When the answer arrived, UTC."""
    source_at: datetime | None = None
    """When the device had the value, UTC, as it says; None where it says nothing (Modbus)."""

    def __init__(
        self,
        tag: str,
        value: Value | None,
        unit: str,
        quality: Quality,
        reason: str,
        received_at: datetime,
        source_at: datetime | None = None,
    ) -> None:
        # A thousand are made at once; what is generated for a frozen class takes twice as long.
        held = self.__dict__
        held["tag"] = tag
        held["value"] = value
        held["unit"] = unit
        held["quality"] = quality
        held["reason"] = reason
        held["received_at"] = received_at
        held["source_at"] = source_at

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Reading:
        """Return the reading that :meth:`as_json` gave. Raises KeyError and ValueError."""
        told = plain.get("source_at")
        return cls(
            plain["tag"],
            plain["value"],
            plain["unit"],
            plain["quality"],
            plain["reason"],
            datetime.fromisoformat(plain["received_at"]),
            None if told is None else datetime.fromisoformat(told),
        )

    def as_json(self) -> dict[str, Any]:
        """Return the reading as a JSON object."""
        told = {} if self.source_at is None else {"source_at": self.source_at.isoformat()}
        return {
            "tag": self.tag,
            "value": self.value,
            "unit": self.unit,
            "quality": self.quality,
            "reason": self.reason,
            **told,
            "received_at": self.received_at.isoformat(),
        }


def is_finite(value: Any) -> bool:
    """Return whether there is no "not a number" and no infinity in a value, however deep."""
    if isinstance(value, (list, tuple)):
        return all(map(is_finite, value))
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return not isinstance(value, float) or math.isfinite(value)


CommandState = Literal["confirmed", "mismatch", "refused", "unknown"]


@dataclass(frozen=True)
class Command:
    """A change of one tag, as it is asked for."""

    device: str
    tag: str
    unit: str
    before: Value | None
    requested: Value
    approver: str = ""
    """Who has approved it, where somebody had to."""


@dataclass(frozen=True)
class CommandResult:
    """How a command ended. ``after`` is what was read back, None when it could not be read."""

    state: CommandState
    after: Value | None
    restored: bool = False
    reason: str = ""


class CommandLog(Protocol):
    """Where a driver reports a command: before it sends, and when it knows how it ended."""

    def intend(self, command: Command) -> str:
        """Put the command on record before it is sent; return its id. Raises when it cannot."""
        ...

    def conclude(self, command_id: str, result: CommandResult) -> None:
        """Put the outcome on record."""
        ...
