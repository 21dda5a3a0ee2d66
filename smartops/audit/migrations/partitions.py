"""Months of the great tables as partitions, so that an old one goes in a moment. Servers only.

The first column of their keys is a UUIDv7: its first six bytes are milliseconds since 1970, so a
month is a range of keys.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

PARTITIONED = ("event", "log_line", "reading")
_AHEAD_MONTHS = 24
_LAST = "p_later"


def is_server(connection: Connection) -> bool:
    """Return whether the store is MySQL or MariaDB."""
    return connection.dialect.name in {"mysql", "mariadb"}


def key_at(moment: datetime) -> bytes:
    """Return the smallest UUIDv7 of a moment, as 16 bytes."""
    return int(moment.timestamp() * 1000).to_bytes(6, "big") + bytes(10)


def moment_of(key: bytes) -> datetime:
    """Return the moment of a UUIDv7, to the millisecond."""
    return datetime.fromtimestamp(int.from_bytes(key[:6], "big") / 1000, UTC)


def month_after(month: datetime) -> datetime:
    """Return the beginning of the next month."""
    return datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)


def partitions(connection: Connection, table: str) -> list[str]:
    """Return the names of a table's partitions, the oldest first; none where it has none."""
    rows = connection.execute(
        sa.text(
            "SELECT partition_name FROM information_schema.partitions WHERE "
            "table_schema = DATABASE() AND table_name = :name AND partition_name IS NOT NULL "
            "ORDER BY partition_ordinal_position"
        ),
        {"name": table},
    )
    return [str(row[0]) for row in rows]


def partition(connection: Connection, table: str, now: datetime | None = None) -> None:
    """Divide a table by months; or add the months ahead that it lacks."""
    if not is_server(connection):
        return
    known = partitions(connection, table)
    month = (now or datetime.now(UTC)).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    wanted: list[datetime] = []
    for _ in range(_AHEAD_MONTHS):
        wanted.append(month)
        month = month_after(month)
    missing = [month for month in wanted if _name(month) > max(known[:-1], default="")]
    if not missing:
        return
    parts = ", ".join(
        f"PARTITION {_name(month)} VALUES LESS THAN (0x{key_at(month_after(month)).hex()})"
        for month in missing
    )
    parts += f", PARTITION {_LAST} VALUES LESS THAN (MAXVALUE)"
    if known:
        sql = f"ALTER TABLE {table} REORGANIZE PARTITION {_LAST} INTO ({parts})"
    else:
        sql = f"ALTER TABLE {table} PARTITION BY RANGE COLUMNS(stream) ({parts})"
    connection.exec_driver_sql(sql)


def _name(month: datetime) -> str:
    return f"p{month:%Y%m}"


def boundary(connection: Connection, table: str, before: datetime) -> datetime | None:
    """Return up to when whole partitions can be dropped; None where the first one is too young."""
    old = _months_before(connection, table, before)
    return month_after(_month(old[-1])) if old else None


def _months_before(connection: Connection, table: str, before: datetime) -> list[str]:
    return [
        name
        for name in partitions(connection, table)
        if name != _LAST and month_after(_month(name)) <= before
    ]


def drop_months(connection: Connection, table: str, before: datetime) -> list[str]:
    """Drop the partitions whose every key is from before; return their names."""
    old = _months_before(connection, table, before)
    if old:
        connection.exec_driver_sql(f"ALTER TABLE {table} DROP PARTITION {', '.join(old)}")
    return old


def _month(name: str) -> datetime:
    return datetime(int(name[1:5]), int(name[5:7]), 1, tzinfo=UTC)
