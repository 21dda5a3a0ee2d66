"""What checks of data have found, expectation by expectation."""

from __future__ import annotations

import sqlalchemy as sa

from smartops.audit.column_types import Id, LongText, UtcTime
from smartops.audit.migrations.resumable import create_table, drop_tables

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    create_table(
        "quality_result",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("step_run_id", Id, nullable=True),
        sa.Column("suite", sa.String(100), nullable=False),
        sa.Column("dataset", sa.String(100), nullable=False),
        sa.Column("expectation", sa.String(100), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("checked_rows", sa.BigInteger, nullable=False),
        sa.Column("bad_rows", sa.BigInteger, nullable=False),
        sa.Column("bad_share", sa.Double, nullable=True),
        sa.Column("warn_above", sa.Double, nullable=True),
        sa.Column("fail_above", sa.Double, nullable=True),
        sa.Column("sentence", LongText, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("run_id", "at"), ("suite", "at"), ("status", "at")],
    )


def downgrade() -> None:
    """Take back. What goes is derived from the events again."""
    drop_tables("quality_result")
