"""Schema changes that can be begun again: MySQL commits each one, so a kill leaves some done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from smartops.audit.table_parts import OPTIONS


def _inspect() -> sa.Inspector:
    return sa.inspect(op.get_bind())


def has_table(name: str) -> bool:
    """Return whether a table is there."""
    return bool(_inspect().has_table(name))


def has_column(table: str, name: str) -> bool:
    """Return whether a column is there."""
    return name in {column["name"] for column in _inspect().get_columns(table)}


def create_table(name: str, *parts: Any, indexes: Sequence[Sequence[str]] = ()) -> None:
    """Create a table and its indexes, each unless it is there."""
    if not has_table(name):
        op.create_table(name, *parts, **OPTIONS)
    for columns in indexes:
        create_index(name, *columns)


def create_index(table: str, *columns: str) -> None:
    """Create an index unless it is there."""
    name = f"ix_{table}_{'_'.join(columns)}"
    if name not in _index_names(table):
        op.create_index(name, table, list(columns))


def drop_index(table: str, *columns: str) -> None:
    """Drop an index if it is there."""
    name = f"ix_{table}_{'_'.join(columns)}"
    if name in _index_names(table):
        op.drop_index(name, table)


def _index_names(table: str) -> set[str | None]:
    return {index["name"] for index in _inspect().get_indexes(table)}


def add_columns(table: str, *columns: sa.Column[Any]) -> None:
    """Add the columns that are not there yet."""
    for column in columns:
        if not has_column(table, column.name):
            op.add_column(table, column)


def drop_columns(table: str, *names: str) -> None:
    """Drop the columns that are there."""
    for name in names:
        if has_column(table, name):
            op.drop_column(table, name)


def drop_tables(*names: str) -> None:
    """Drop the tables that are there."""
    for name in names:
        if has_table(name):
            op.drop_table(name)
