"""Reads many rows a few at a time: a year of them must not be in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

_AT_ONCE = 5000


def streamed(connection: Connection, query: sa.Select[Any]) -> Iterator[sa.Row[Any]]:
    """Yield the rows of a query. Until it is through, the connection is for nothing else."""
    options = {"yield_per": _AT_ONCE}
    for rows in connection.execute(query, execution_options=options).partitions(_AT_ONCE):
        yield from rows
