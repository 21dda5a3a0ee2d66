"""Reads many rows a few at a time, and asks for many things a few at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection

T = TypeVar("T")
_AT_ONCE = 5000
_MOST = 1000


def streamed(connection: Connection, query: sa.Select[Any]) -> Iterator[sa.Row[Any]]:
    """Yield the rows of a query: a year of them must not be in memory.

    Until it is through, the connection is for nothing else.
    """
    options = {"yield_per": _AT_ONCE}
    for rows in connection.execute(query, execution_options=options).partitions(_AT_ONCE):
        yield from rows


def chunks(values: Iterable[T], most: int = _MOST) -> Iterator[list[T]]:
    """Divide values so that no statement has too many."""
    everything = list(values)
    for start in range(0, len(everything), most):
        yield everything[start : start + most]
