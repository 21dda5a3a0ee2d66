"""The tables of the audit store, one definition for SQLite, MariaDB and MySQL.

Ids are UUIDs in 16 bytes, made by the writer, so that a replay finds its own row. Names and ids
compare byte by byte. Times are UTC with microseconds. JSON is kept as text: MySQL reorders the
keys of a JSON column.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
}
_TABLE = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
_MARIADB = {key.replace("mysql", "mariadb"): value for key, value in _TABLE.items()}
OPTIONS: dict[str, Any] = {**_TABLE, **_MARIADB}


class Id(TypeDecorator[UUID]):
    """A UUID in 16 bytes, in an order that keeps UUIDv7 sorted by time."""

    impl = LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return BINARY(16) on MySQL and MariaDB, a BLOB on SQLite."""
        own = mysql.BINARY(16) if dialect.name in {"mysql", "mariadb"} else LargeBinary(16)
        return dialect.type_descriptor(own)

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> bytes | None:
        """Return the bytes."""
        return None if value is None else value.bytes

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        """Return the UUID."""
        return None if value is None else UUID(bytes=bytes(value))


class UtcTime(TypeDecorator[datetime]):
    """An aware time, stored as UTC with microseconds."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return DATETIME(6) on MySQL and MariaDB."""
        own = mysql.DATETIME(fsp=6) if dialect.name in {"mysql", "mariadb"} else DateTime()
        return dialect.type_descriptor(own)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the naive UTC time; refuse a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the aware time."""
        return None if value is None else value.replace(tzinfo=UTC)


LongText = Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")

metadata = MetaData(naming_convention=NAMING)

stream = Table(
    "stream",
    metadata,
    Column("id", Id, primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    **OPTIONS,
)

event = Table(
    "event",
    metadata,
    Column("stream", Id, primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("id", Id, nullable=False, unique=True),
    Column("run_id", Id, nullable=False),
    Column("type", String(32), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("body", LongText, nullable=False),
    Index(None, "run_id", "at"),
    **OPTIONS,
)

job_revision = Table(
    "job_revision",
    metadata,
    Column("revision", String(64), primary_key=True),
    Column("job", String(100), nullable=False),
    Column("spec", LongText, nullable=False),
    Column("first_seen_at", UtcTime, nullable=False),
    Index(None, "job", "first_seen_at"),
    **OPTIONS,
)

job_run = Table(
    "job_run",
    metadata,
    Column("id", Id, primary_key=True),
    Column("job", String(255), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("revision", String(64)),
    Column("flow", String(255), nullable=False),
    Column("deployment", String(255)),
    Column("params", LongText, nullable=False),
    Column("state", String(32), nullable=False),
    Column("message", LongText, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Index(None, "started_at"),
    Index(None, "job", "started_at"),
    Index(None, "state", "started_at"),
    **OPTIONS,
)

step_run = Table(
    "step_run",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, nullable=False),
    Column("step", String(255), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("effect", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", String(32), nullable=False),
    Column("inputs", LongText, nullable=False),
    Column("output", LongText),
    Column("error_class", String(255)),
    Column("error", LongText),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Index(None, "run_id", "started_at"),
    Index(None, "state", "started_at"),
    **OPTIONS,
)

device_command = Table(
    "device_command",
    metadata,
    Column("id", Id, primary_key=True),
    Column("run_id", Id, nullable=False),
    Column("step_run_id", Id, nullable=False),
    Column("device", String(255), nullable=False),
    Column("tag", String(64), nullable=False),
    Column("unit", String(32), nullable=False),
    Column("before_value", Text),
    Column("requested_value", Text, nullable=False),
    Column("after_value", Text),
    Column("state", String(16), nullable=False),
    Column("restored", Boolean(create_constraint=False), nullable=False),
    Column("reason", LongText, nullable=False),
    Column("requested_at", UtcTime, nullable=False),
    Column("concluded_at", UtcTime),
    Index(None, "run_id", "requested_at"),
    Index(None, "device", "requested_at"),
    **OPTIONS,
)
