"""Locks across machines: whose turn it is, and who waits."""

from __future__ import annotations

import sqlalchemy as sa

from smartops.audit.column_types import UtcTime
from smartops.audit.migrations.resumable import create_table, drop_tables

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    create_table(
        "lock_turn",
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("turn", sa.BigInteger(), nullable=False),
        sa.Column("free", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("resource"),
    )
    create_table(
        "lock_place",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("connection", sa.BigInteger(), nullable=False),
        sa.Column("resource", sa.String(255), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("run", sa.String(36), nullable=False),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("step", sa.String(255), nullable=False),
        sa.Column("since", UtcTime, nullable=False),
        sa.Column("held", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("resource",)],
    )


def downgrade() -> None:
    """Take back."""
    drop_tables("lock_place", "lock_turn")
