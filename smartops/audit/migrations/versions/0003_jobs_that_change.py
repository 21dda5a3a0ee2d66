"""Jobs that change and runs that wait: who changed a job, what a run gives, what it belongs to."""

from __future__ import annotations

import sqlalchemy as sa

from smartops.audit.column_types import Id, LongText, UtcTime
from smartops.audit.migrations.resumable import (
    add_columns,
    create_index,
    create_table,
    drop_columns,
    drop_index,
    drop_tables,
)

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    create_table(
        "job_change",
        sa.Column("id", Id, nullable=False),
        sa.Column("job", sa.String(255), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("revision", sa.String(64), nullable=True),
        sa.Column("before", sa.String(64), nullable=True),
        sa.Column("person", sa.String(255), nullable=False),
        sa.Column("source", sa.String(255), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("job", "at"), ("person", "at")],
    )
    add_columns(
        "job_run",
        sa.Column("parent", Id, nullable=True),
        sa.Column("resumes", Id, nullable=True),
        sa.Column("rehearsal", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("output", LongText, nullable=True),
    )
    create_index("job_run", "parent")
    create_index("job_run", "resumes")
    add_columns(
        "approval",
        sa.Column("step", sa.String(255), nullable=True),
        sa.Column("question", LongText, nullable=True),
    )
    add_columns("decision", sa.Column("step", sa.String(255), nullable=True))


def downgrade() -> None:
    """Take back. What goes is derived from the events again."""
    drop_columns("decision", "step")
    drop_columns("approval", "step", "question")
    drop_index("job_run", "resumes")
    drop_index("job_run", "parent")
    drop_columns("job_run", "parent", "resumes", "rehearsal", "output")
    drop_tables("job_change")
