"""What reports keep: rollups by the hour, and bytes; and how long steps waited for locks."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, String
from sqlalchemy.dialects import mysql

from smartops.audit.column_types import Id, LongText, UtcTime
from smartops.audit.table_parts import key, required, table

Bytes = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


def _number(name: str) -> Column[int]:
    return required(name, BigInteger)


rollup_run = table(
    "rollup_run",
    key("hour", UtcTime),
    key("job", String(255)),
    _number("completed"),
    _number("failed"),
    _number("crashed"),
    _number("needs_decision"),
    _number("cancelled"),
    _number("open"),
    _number("busy_us"),
    _number("lost_us"),
    required("histogram", LongText),
)
"""Runs by the hour of their start, without rehearsals; durations of those that completed."""

rollup_step = table(
    "rollup_step",
    key("hour", UtcTime),
    key("job", String(255)),
    key("step", String(255)),
    required("kind", String(64)),
    _number("completed"),
    _number("failed"),
    _number("skipped"),
    _number("other"),
    _number("passed_on_retry"),
    _number("busy_us"),
    _number("retried_us"),
    required("histogram", LongText),
)
"""Attempts of steps by the hour of their start; the items of a list are one step."""

rollup_state = table(
    "rollup_state",
    key("id", Integer),
    _number("seal"),
    _number("version"),
)
"""Up to which seal the events are in the rollups; the version grows with each writing."""

report_part = table(
    "report_part",
    key("sha256", String(64)),
    key("number", Integer),
    required("data", Bytes),
)
"""The compressed bytes of a report, in parts of at most 512 KiB, by the hash of the whole."""

lock_wait = table(
    "lock_wait",
    key("id", Id),
    required("run_id", Id),
    required("step", String(255)),
    required("resource", String(255)),
    required("holder", String(255)),
    required("waited_s", Double),
    required("outcome", String(16)),
    required("at", UtcTime),
    Index(None, "run_id", "at"),
    Index(None, "at"),
)
"""Each time that somebody waited for a lock for longer than a moment; ``taken`` or ``gave_up``."""
