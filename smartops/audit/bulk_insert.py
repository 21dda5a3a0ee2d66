"""Adds many rows to one table, quickly.

On a server, PyMySQL's ``executemany`` spends most of its time on the general case of each value;
here the kinds of values are few. Texts are escaped by PyMySQL itself. Statements stay below
1 MiB, and so below every server's ``max_allowed_packet``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from pymysql.converters import escape_string
from sqlalchemy.engine import Connection

_MOST_CHARACTERS = 250_000  # four bytes each, at worst
Values = Sequence[Any]


def bulk_insert(
    connection: Connection, table: str, columns: Sequence[str], rows: Sequence[Values]
) -> None:
    """Add rows to a table, each with a value for every column.

    The values are those that a record has: texts, numbers, bytes, UUIDs, aware times, None.
    """
    quoted = connection.dialect.identifier_preparer.quote  # a column may be called `before`
    head = f"INSERT INTO {quoted(table)} ({', '.join(map(quoted, columns))}) VALUES"
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(columns))
        plain = [tuple([_plain(value) for value in row]) for row in rows]
        connection.exec_driver_sql(f"{head} ({marks})", plain)
        return
    whole = connection.execution_options(no_parameters=True)
    for text in _texts(rows):
        whole.exec_driver_sql(f"{head} {text}")


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):
        return value.bytes
    return _time(value) if isinstance(value, datetime) else value


@lru_cache(maxsize=1024)
def _second(second: int) -> str:
    return str(datetime.fromtimestamp(second, UTC).replace(tzinfo=None))


def utc_text(at_us: int) -> str:
    """Return microseconds since 1970 as both kinds of database write a time."""
    second, rest = divmod(at_us, 1_000_000)
    return f"{_second(second)}.{rest:06d}"


def _time(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"{value} has no time zone")
    return value.astimezone(UTC).isoformat(" ", "microseconds")[:26]  # without the +00:00


_LITERALS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "NULL",
    bool: lambda value: "1" if value else "0",
    int: str,
    float: repr,
    bytes: lambda value: f"x'{value.hex()}'",
    UUID: lambda value: f"x'{value.hex}'",
    # Escaping by backslashes holds: the connection's sql_mode is ours.
    str: lambda value: f"'{escape_string(value)}'",
    datetime: lambda value: f"'{_time(value)}'",
}


def _texts(rows: Iterable[Values]) -> Iterator[str]:
    """Yield the rows as texts of limited length."""
    parts: list[str] = []
    size = 0
    for row in rows:
        text = ",".join([_LITERALS[type(value)](value) for value in row])
        if size + len(text) > _MOST_CHARACTERS and parts:
            yield f"({'),('.join(parts)})"
            parts, size = [], 0
        parts.append(text)
        size += len(text)
    if parts:
        yield f"({'),('.join(parts)})"
