"""What the tables of the audit store are made of."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, MetaData, Table

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
}
_TABLE = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
_MARIADB = {key.replace("mysql", "mariadb"): value for key, value in _TABLE.items()}
OPTIONS: dict[str, Any] = {**_TABLE, **_MARIADB}
"""How each table is created on MySQL and MariaDB."""

metadata = MetaData(naming_convention=NAMING)
"""The record, and what is derived from it."""


def table(name: str, *parts: Any) -> Table:
    """Return a table of the record."""
    return Table(name, metadata, *parts, **OPTIONS)


def required(name: str, kind: Any) -> Column[Any]:
    """Return a column that is never empty."""
    return Column(name, kind, nullable=False)


def key(name: str, kind: Any) -> Column[Any]:
    """Return a column of the primary key; whoever writes gives its value."""
    return Column(name, kind, primary_key=True, autoincrement=False)
