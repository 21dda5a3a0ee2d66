"""Why a run's process ended and what it left behind; which machines are heard of."""

from __future__ import annotations

import sqlalchemy as sa

from smartops.audit.column_types import LongText, UtcTime
from smartops.audit.migrations.resumable import (
    add_columns,
    create_table,
    drop_columns,
    drop_tables,
)

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    add_columns(
        "run_process",
        sa.Column("cause", sa.String(255), nullable=True),
        sa.Column("left_behind", LongText, nullable=True),
        sa.Column("still_alive", LongText, nullable=True),
    )
    create_table(
        "machine_beat",
        sa.Column("home", sa.String(36), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("beats", sa.BigInteger(), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("home"),
    )


def downgrade() -> None:
    """Take back. What goes is derived from the events again."""
    drop_tables("machine_beat")
    drop_columns("run_process", "cause", "left_behind", "still_alive")
