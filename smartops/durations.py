"""Durations as people write them: ``500ms``, ``5s``, ``2m``, ``1h30m``, or a number of seconds."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

_UNITS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")


def parse_duration(value: Any) -> Any:
    """Return a timedelta for ``1h30m`` and the like or for seconds; leave the rest to pydantic."""
    if isinstance(value, bool):
        raise ValueError("a duration such as 5s, 2m or 1h30m is wanted")
    if isinstance(value, (int, float)):
        return _timedelta(value * 1000.0)
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        parts = _PART.findall(value)
        return _timedelta(sum(float(number) * _UNITS[unit] for number, unit in parts))
    if isinstance(value, str) and not value.strip().startswith(("P", "-P", "+P")):
        raise ValueError(f"{value!r} is no duration; write 500ms, 5s, 2m or 1h30m")
    return value


def _timedelta(milliseconds: float) -> timedelta:
    try:
        return timedelta(milliseconds=milliseconds)
    except (OverflowError, ValueError):
        raise ValueError("a duration cannot be that long") from None


def format_duration(value: timedelta) -> str:
    """Return the shortest text that :func:`parse_duration` turns back into the same value."""
    left = round(value / timedelta(milliseconds=1))
    parts: list[str] = []
    for unit in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _sensible(value: timedelta) -> timedelta:
    if value < timedelta():
        raise ValueError("a duration cannot be negative")
    if value > timedelta(days=366):
        raise ValueError("a duration cannot be longer than a year")
    return value


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    AfterValidator(_sensible),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["500ms", "5s", "1h30m"]}),
]


def duration_field(default: str, **options: Any) -> Any:
    """Return a pydantic field with a duration as its default, written alike in the schema."""
    return Field(default=parse_duration(default), json_schema_extra={"default": default}, **options)
