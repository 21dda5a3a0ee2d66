"""How often steps asked devices, and how long the answers took."""

from __future__ import annotations

import sqlalchemy as sa

from smartops.audit.column_types import Id, UtcTime
from smartops.audit.migrations.resumable import create_table, drop_tables

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    create_table(
        "device_exchange",
        sa.Column("step_run_id", Id, nullable=False),
        sa.Column("device", sa.String(255), nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("answered", sa.BigInteger, nullable=False),
        sa.Column("unanswered", sa.BigInteger, nullable=False),
        sa.Column("total_s", sa.Double, nullable=False),
        sa.Column("longest_s", sa.Double, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("step_run_id", "device"),
        indexes=[("run_id",), ("at",)],
    )


def downgrade() -> None:
    """Take back. What goes is derived from the events again."""
    drop_tables("device_exchange")
