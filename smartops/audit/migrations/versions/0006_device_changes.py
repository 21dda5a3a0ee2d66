"""When devices were left alone because they did not answer, and when they were back."""

from __future__ import annotations

import sqlalchemy as sa

from smartops.audit.column_types import Id, LongText, UtcTime
from smartops.audit.migrations.resumable import create_table, drop_tables

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    create_table(
        "device_change",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("device", sa.String(255), nullable=False),
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("part", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("since", UtcTime, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("device", "at"), ("at",)],
    )


def downgrade() -> None:
    """Take back. What goes is derived from the events again."""
    drop_tables("device_change")
