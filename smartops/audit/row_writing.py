"""Collects rows to add and to change, and writes them table by table, in few statements."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Table, exc
from sqlalchemy.engine import Connection

from smartops.audit.bulk_insert import bulk_insert

Row = dict[str, Any]


@cache
def _limits(table: Table) -> tuple[tuple[str, int], ...]:
    """Return the columns of a table that hold texts of limited length."""
    found = []
    for column in table.columns:
        kind = column.type
        if isinstance(kind, sa.String) and not isinstance(kind, sa.Text) and kind.length:
            found.append((column.name, kind.length))
    return tuple(found)


def _cut(table: Table, row: Row) -> Row:
    """Cut texts that a column cannot hold: a record must not be refused for a long name."""
    for name, length in _limits(table):
        value = row.get(name)
        if value is not None and len(value) > length:
            row[name] = value[: length - 1] + "…"
    return row


class Changes:
    """What a batch of events adds and changes, by table and primary key."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._new: dict[Table, dict[Any, Row]] = defaultdict(dict)
        self._changed: dict[Table, dict[Any, Row]] = defaultdict(dict)
        self._unless: list[tuple[Table, Any, Row, str]] = []
        self._maybe: dict[Table, dict[Any, Row]] = defaultdict(dict)
        self._wins: set[Table] = set()

    def insert(self, table: Table, key: Any, row: Row) -> None:
        """Add a row that is not there."""
        self._new[table][key] = _cut(table, row)

    def insert_if_new(self, table: Table, key: Any, row: Row) -> None:
        """Add a row unless it is there."""
        if key in self._new[table]:
            return
        self._maybe[table].setdefault(key, _cut(table, row))

    def insert_or_update(self, table: Table, key: Any, row: Row) -> None:
        """Add a row, in place of the one that is there."""
        self._wins.add(table)
        self._maybe[table][key] = _cut(table, row)

    def update(self, table: Table, key: Any, values: Row, unless: str | None = None) -> None:
        """Change a row; with ``unless`` only where that column is empty."""
        row = self._new[table].get(key)
        if row is not None:
            if unless is None or row[unless] is None:
                row.update(_cut(table, values))
        elif unless is not None:
            self._unless.append((table, key, _cut(table, values), unless))
        else:
            self._changed[table].setdefault(key, {}).update(_cut(table, values))

    def write(self) -> None:
        """Write everything."""
        for table, rows in self._maybe.items():
            self._write_maybe(table, rows)
        for table, rows in self._new.items():
            if rows:
                names = tuple(next(iter(rows.values())))
                lines = [tuple(row.values()) for row in rows.values()]
                bulk_insert(self._connection, table.name, names, lines)
        for table, rows in self._changed.items():
            for key, values in rows.items():
                self._update(table, key, values)
        for table, key, values, unless in self._unless:
            self._update(table, key, values, table.c[unless].is_(None))

    def _update(self, table: Table, key: Any, values: Row, *where: Any) -> None:
        (column,) = table.primary_key.columns
        self._connection.execute(sa.update(table).where(column == key, *where).values(**values))

    def _write_maybe(self, table: Table, rows: dict[Any, Row]) -> None:
        if not rows:
            return
        (column,) = table.primary_key.columns
        query = sa.select(column).where(column.in_(list(rows)))
        known = set(self._connection.execute(query).scalars())
        new = [row for key, row in rows.items() if key not in known]
        try:
            with self._connection.begin_nested():
                if new:
                    self._connection.execute(sa.insert(table), new)
        except exc.IntegrityError:  # another recorder was first with one of them
            for row in new:
                self._insert_one(table, row)
        if table in self._wins:
            for key in known:
                self._update(table, key, rows[key])

    def _insert_one(self, table: Table, row: Row) -> None:
        try:
            with self._connection.begin_nested():
                self._connection.execute(sa.insert(table), row)
        except exc.IntegrityError:
            return
