"""Which runs the steps of a run have started."""

from __future__ import annotations

import sqlalchemy as sa

from smartops.audit.column_types import Id, UtcTime
from smartops.audit.migrations.resumable import create_table, drop_tables

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    create_table(
        "child_run",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("step_run_id", Id, nullable=False),
        sa.Column("child", Id, nullable=False),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("run_id", "at")],
    )


def downgrade() -> None:
    """Take back. What goes is derived from the events again."""
    drop_tables("child_run")
