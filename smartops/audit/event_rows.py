"""Rows in the order of their key, page by page, past everything that costs time.

Pages, and not one long result, so that several tables can be read side by side on one connection,
in one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy.engine import Connection

from smartops.audit.chain import micros

EventRow = tuple[bytes, int, bytes, int, bytes, str, int, str, bytes]
"""Stream, seq, run_id, run_seq, id, type, microseconds since 1970, body, hash."""
_PAGE = 4000
_AT = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', at)"
_COLUMNS = "stream, seq, run_id, run_seq, id, type, {at}, body, hash"


def event_rows(
    connection: Connection, table: Literal["event", "event_held"], *, is_server: bool
) -> Iterator[EventRow]:
    """Yield all rows of a table of events."""
    columns = _COLUMNS.format(at=_AT if is_server else "at")
    rows = keyset(connection, table, columns, ("stream", "seq"))
    if is_server:
        yield from rows
    else:
        for row in rows:
            yield (*row[:6], _micros(row[6]), *row[7:])


def _micros(text: Any) -> Any:
    """Return the microseconds; what is no time stays as it is, for the verification to find."""
    try:
        return micros(datetime.fromisoformat(text).replace(tzinfo=UTC))
    except (ValueError, TypeError):
        return text


def keyset(connection: Connection, table: str, columns: str, key: tuple[str, ...]) -> Iterator[Any]:
    """Yield the columns of all rows, which begin with the key: one column, or two."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    order = f"ORDER BY {', '.join(key)} LIMIT {_PAGE}"
    select = f"SELECT {columns} FROM {table} WHERE {key[0]}"  # noqa: S608 - our own names
    last: tuple[Any, ...] = (b"",)
    with closing(connection.connection.cursor()) as cursor:

        def page(condition: str, *values: Any) -> Any:
            cursor.execute(f"{select} {condition} {order}", values)
            return cursor.fetchall()

        while rows := page(f"> {mark}", last[0]):
            while rows:
                yield from rows
                last = tuple(rows[-1][: len(key)])
                whole = len(rows) < _PAGE or len(key) == 1
                rows = [] if whole else page(f"= {mark} AND {key[1]} > {mark}", *last)
