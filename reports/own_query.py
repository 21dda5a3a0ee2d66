"""A query that somebody wrote, on the audit store: it can only read, and only for so long."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from reports.own import readable
from smartops import redact
from smartops.audit.column_types import Id, UtcTime
from smartops.audit.store import Store
from smartops.durations import format_duration
from smartops.errors import BadInput

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?")
_UUID_BYTES = 16
_STEPS_BETWEEN_LOOKS = 10_000
"""After so many steps of its machine SQLite looks whether a query's time is over."""
_TIME_IS_OVER = {1969, 3024}
_SQLITE_MAY = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
    sqlite3.SQLITE_TRANSACTION,
}


@dataclass(frozen=True)
class Period:
    """What a query may name: ``:since``, ``:until``, and what follows from them."""

    since: datetime
    until: datetime

    @property
    def names(self) -> dict[str, tuple[Any, Any]]:
        """Each name with its value and the type of that."""
        return {
            "since": (self.since, UtcTime),
            "until": (self.until, UtcTime),
            "settled": (self.until - timedelta(days=1), UtcTime),
            "since_key": (first_id(self.since), Id),
            "until_key": (first_id(self.until), Id),
        }


def first_id(moment: datetime) -> UUID:
    """Return the smallest UUIDv7 of a moment: what began later has a greater one."""
    return UUID(int=(int(moment.timestamp() * 1000) << 80) | (7 << 76))


def rows(
    store: Store,
    query: str,
    period: Period,
    *,
    most: int,
    limit: timedelta,
    tables: frozenset[str] | None = None,
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and the rows of a query, as values that JSON, CSV and pandas can hold.

    Times are aware, ids are text. With ``tables`` it may read no others. Raises BadInput for a
    query that the database refuses, that takes longer than ``limit`` or gives more than ``most``
    rows; StoreUnavailable.
    """
    statement = sa.text(query)
    wanted = set(statement.compile().params)
    binds = [sa.bindparam(n, *of) for n, of in period.names.items() if n in wanted]
    with ExitStack() as opened:
        patient = opened.enter_context(store.patient())
        if tables is not None and store.is_server:
            _no_name_twice(patient, query)
        connection = opened.enter_context(_only_reading(patient, limit, most, tables))
        try:
            result = connection.execute(statement.bindparams(*binds))
            columns = list(result.keys())
            found = [
                dict(zip(columns, map(_plain, row), strict=True)) for row in _some(result, most)
            ]
        except exc.DBAPIError as error:
            if _is_over(error):
                raise BadInput(
                    f"the query took longer than {format_duration(limit)}",
                    hint="Narrow it, or give it more time.",
                ) from error
            said = redact.text(str(error.orig.args[-1] if error.orig else error))
            raise BadInput(f"the query cannot be answered: {said}") from error
    if len(columns) != len(set(columns)):
        raise BadInput("the query has two columns of the same name")
    return columns, found


def _some(result: Any, most: int) -> Iterator[Any]:
    for number, row in enumerate(result):
        if number >= most:
            raise BadInput(
                f"the query gives more than {most:,} rows", hint="Narrow it, by :since or by GROUP."
            )
        yield row


@contextmanager
def _only_reading(
    store: Store, limit: timedelta, most: int, tables: frozenset[str] | None
) -> Iterator[Connection]:
    """Give a connection on which the database itself refuses every change, and every long query."""
    with store.engine.connect() as connection:
        if store.is_server:
            for words in (_time_limit(connection, limit), f"sql_select_limit = {most + 1}"):
                connection.exec_driver_sql(f"SET SESSION {words}")
            connection.exec_driver_sql("SET SESSION TRANSACTION READ ONLY")
            connection.rollback()
        else:
            connection.exec_driver_sql("PRAGMA query_only = ON")
            _guard(connection, limit, tables)
        yield connection


def _guard(connection: Connection, limit: timedelta, tables: frozenset[str] | None) -> None:
    """Let SQLite end what takes too long, and read the tables alone."""
    raw: Any = connection.connection.dbapi_connection
    deadline = time.monotonic() + limit.total_seconds()
    raw.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)

    def may(action: int, table: str | None, *_about: str | None) -> int:
        reads = action == sqlite3.SQLITE_READ and tables is not None and table in tables
        return sqlite3.SQLITE_OK if reads or action in _SQLITE_MAY else sqlite3.SQLITE_DENY

    if tables is not None:
        raw.set_authorizer(may)


def _no_name_twice(store: Store, query: str) -> None:
    """Refuse a WITH that is named as a table is: it would hide which of the two is read.

    SQLite knows itself which of them it reads.
    """
    if own := readable.names_of_with(query):
        with store.reading() as connection:
            inspector = sa.inspect(connection)
            known = {*inspector.get_table_names(), *inspector.get_view_names()}
        for name in sorted(own & known):
            raise BadInput(f"WITH {name}: a table has that name", hint="Choose another.")


def _is_over(error: exc.DBAPIError) -> bool:
    if error.orig is None or not error.orig.args:
        return False
    return error.orig.args[0] in _TIME_IS_OVER or error.orig.args == ("interrupted",)


def _time_limit(connection: Connection, limit: timedelta) -> str:
    seconds = limit.total_seconds()
    if getattr(connection.dialect, "is_mariadb", False):
        return f"max_statement_time = {seconds:g}"
    return f"max_execution_time = {seconds * 1000:.0f}"


def _plain(value: Any) -> Any:
    """Return a value as all databases mean it: times with their zone, ids and numbers plain."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value
    if isinstance(value, str) and _TIME.fullmatch(value):
        return datetime.fromisoformat(value).replace(tzinfo=UTC)
    if isinstance(value, (bytes, bytearray)):
        held = bytes(value)
        return str(UUID(bytes=held)) if len(held) == _UUID_BYTES else held.hex()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
