"""What reports keep: rollups by the hour, and bytes; and how long steps waited for locks."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, String, Table
from sqlalchemy.dialects import mysql

from smartops.audit.column_types import Id, LongText, UtcTime
from smartops.audit.models import OPTIONS, metadata

Bytes = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


rollup_run = Table(
    "rollup_run",
    metadata,
    Column("hour", UtcTime, primary_key=True, autoincrement=False),
    Column("job", String(255), primary_key=True, autoincrement=False),
    _number("completed"),
    _number("failed"),
    _number("crashed"),
    _number("needs_decision"),
    _number("cancelled"),
    _number("open"),
    _number("busy_us"),
    _number("lost_us"),
    Column("histogram", LongText, nullable=False),
    **OPTIONS,
)
"""Runs by the hour of their start, without rehearsals; durations of those that completed."""

rollup_step = Table(
    "rollup_step",
    metadata,
    Column("hour", UtcTime, primary_key=True, autoincrement=False),
    Column("job", String(255), primary_key=True, autoincrement=False),
    Column("step", String(255), primary_key=True, autoincrement=False),
    Column("kind", String(64), nullable=False),
    _number("completed"),
    _number("failed"),
    _number("skipped"),
    _number("other"),
    _number("passed_on_retry"),
    _number("busy_us"),
    _number("retried_us"),
    Column("histogram", LongText, nullable=False),
    **OPTIONS,
)
"""Attempts of steps by the hour of their start; the items of a list are one step."""

rollup_state = Table(
    "rollup_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _number("seal"),
    _number("version"),
    **OPTIONS,
)
"""Up to which seal the events are in the rollups; the version grows with each writing."""

report_part = Table(
    "report_part",
    metadata,
    Column("sha256", String(64), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("data", Bytes, nullable=False),
    **OPTIONS,
)
"""The compressed bytes of a report, in parts of at most 512 KiB, by the hash of the whole."""

lock_wait = Table(
    "lock_wait",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("run_id", Id, nullable=False),
    Column("step", String(255), nullable=False),
    Column("resource", String(255), nullable=False),
    Column("holder", String(255), nullable=False),
    Column("waited_s", Double, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("at", UtcTime, nullable=False),
    Index(None, "run_id", "at"),
    Index(None, "at"),
    **OPTIONS,
)
"""Each time that somebody waited for a lock for longer than a moment; ``taken`` or ``gave_up``."""
