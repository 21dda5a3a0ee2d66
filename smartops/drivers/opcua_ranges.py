"""Parts of arrays, as OPC UA names them: ``3``, ``2:5``, ``1,0:2``. Pure.

A server may give less than it was asked for, or pass over what it was asked for and give all: a
part has to have the shape that was wanted, or it is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Span:
    """What is wanted of one dimension, from 0; the last one counts as well."""

    first: int
    last: int
    one: bool
    """Whether it is one place, so that its value is no list."""

    @property
    def count(self) -> int:
        """How many places it has."""
        return self.last - self.first + 1


def parse(text: str) -> tuple[Span, ...]:
    """Return what a range wants of each dimension. Raises ValueError."""
    spans = []
    for part in text.split(",") if text else []:
        first, colon, last = part.partition(":")
        span = Span(int(first), int(last or first), not colon)
        if colon and span.last <= span.first:
            raise ValueError(f"range {part}: the second number has to be the larger one")
        spans.append(span)
    return tuple(spans)


def picked(whole: Any, spans: Sequence[Span]) -> Any:
    """Return the part of a whole array, as a server would give it. Raises ValueError."""
    if not spans:
        return whole
    here, *inner = spans
    if not isinstance(whole, list):
        raise ValueError("the server holds no array of so many dimensions")
    return [picked(item, inner) for item in whole[here.first : here.last + 1]]


def fitted(part: Any, spans: Sequence[Span]) -> Any:
    """Return the value of what a server gave for a range; what is one place is no list.

    Raises ValueError when it is not what was asked for.
    """
    if not spans:
        return part
    here, *inner = spans
    if not isinstance(part, list):
        raise ValueError("the server holds no array of so many dimensions")
    if len(part) != here.count:
        raise ValueError(
            f"the server gives {len(part)} values where {here.count} were asked for: the array is "
            "shorter, or it knows no index ranges"
        )
    found = [fitted(item, inner) for item in part]
    return found[0] if here.one else found


def widened(value: Any, spans: Sequence[Span]) -> Any:
    """Return a value as a server wants it for a range. Raises ValueError."""
    if not spans:
        return value
    here, *inner = spans
    items = [value] if here.one else value
    deeper = not inner and isinstance(items, list) and any(isinstance(i, list) for i in items)
    if not isinstance(items, list) or len(items) != here.count or deeper:
        wanted = "one value" if here.one else f"a list of {here.count} values"
        raise ValueError(f"{value!r} is not {wanted}, as its range wants")
    return [widened(item, inner) for item in items]
