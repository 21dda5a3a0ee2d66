"""Reports: rollups by the hour, the bytes of reports, waits for locks."""

from __future__ import annotations

import sqlalchemy as sa

from smartops.audit.column_types import Id, LongText, UtcTime
from smartops.audit.migrations.resumable import create_table, drop_tables
from smartops.audit.report_tables import Bytes

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _needed(name: str, kind: object) -> sa.Column[object]:
    return sa.Column(name, kind, nullable=False)  # type: ignore[arg-type]


def _numbers(*names: str) -> list[sa.Column[object]]:
    return [_needed(name, sa.BigInteger()) for name in names]


def upgrade() -> None:
    """Apply."""
    create_table(
        "rollup_run",
        _needed("hour", UtcTime),
        _needed("job", sa.String(255)),
        *_numbers("completed", "failed", "crashed", "needs_decision", "cancelled", "open"),
        *_numbers("busy_us", "lost_us"),
        _needed("histogram", LongText),
        sa.PrimaryKeyConstraint("hour", "job"),
    )
    create_table(
        "rollup_step",
        _needed("hour", UtcTime),
        _needed("job", sa.String(255)),
        _needed("step", sa.String(255)),
        _needed("kind", sa.String(64)),
        *_numbers("completed", "failed", "skipped", "other", "passed_on_retry"),
        *_numbers("busy_us", "retried_us"),
        _needed("histogram", LongText),
        sa.PrimaryKeyConstraint("hour", "job", "step"),
    )
    create_table(
        "rollup_state",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        *_numbers("seal", "version"),
        sa.PrimaryKeyConstraint("id"),
    )
    create_table(
        "report_part",
        _needed("sha256", sa.String(64)),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        _needed("data", Bytes),
        sa.PrimaryKeyConstraint("sha256", "number"),
    )
    create_table(
        "lock_wait",
        _needed("id", Id),
        _needed("run_id", Id),
        _needed("step", sa.String(255)),
        _needed("resource", sa.String(255)),
        _needed("holder", sa.String(255)),
        _needed("waited_s", sa.Double()),
        _needed("outcome", sa.String(16)),
        _needed("at", UtcTime),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("run_id", "at"), ("at",)],
    )


def downgrade() -> None:
    """Take back. What goes can be made again, but for the bytes of reports."""
    drop_tables("rollup_run", "rollup_step", "rollup_state", "report_part", "lock_wait")
