"""Column types that mean the same on SQLite, MariaDB and MySQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Dialect, LargeBinary, Text
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeDecorator, TypeEngine


class Id(TypeDecorator[UUID]):
    """A UUID in 16 bytes, in an order that keeps UUIDv7 sorted by time. Takes the bytes as well."""

    impl = LargeBinary(16)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return BINARY(16) on MySQL and MariaDB, a BLOB on SQLite."""
        own = mysql.BINARY(16) if dialect.name in {"mysql", "mariadb"} else LargeBinary(16)
        return dialect.type_descriptor(own)

    def process_bind_param(self, value: UUID | bytes | None, dialect: Dialect) -> bytes | None:
        """Return the bytes."""
        return value.bytes if isinstance(value, UUID) else value

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


class Digest(TypeDecorator[bytes]):
    """A hash, a key or a signature of a fixed number of bytes."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, length: int = 32) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return BINARY(n) on MySQL and MariaDB, a BLOB on SQLite."""
        if dialect.name in {"mysql", "mariadb"}:
            return dialect.type_descriptor(mysql.BINARY(self.length))
        return dialect.type_descriptor(LargeBinary(self.length))

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:
        """Return the bytes."""
        return None if value is None else bytes(value)
