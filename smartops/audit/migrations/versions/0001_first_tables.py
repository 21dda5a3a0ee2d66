"""First tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from smartops.audit.column_types import Id, LongText, UtcTime
from smartops.audit.migrations.resumable import create_index, create_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply."""
    create_table(
        "device_command",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("step_run_id", Id, nullable=False),
        sa.Column("device", sa.String(length=255), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.Column("unit", sa.String(length=32), nullable=False),
        sa.Column("before_value", sa.Text(), nullable=True),
        sa.Column("requested_value", sa.Text(), nullable=False),
        sa.Column("after_value", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("restored", sa.Boolean(), nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("requested_at", UtcTime, nullable=False),
        sa.Column("concluded_at", UtcTime, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    create_index("device_command", "device", "requested_at")
    create_index("device_command", "run_id", "requested_at")

    create_table(
        "event",
        sa.Column("stream", Id, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("body", LongText, nullable=False),
        sa.PrimaryKeyConstraint("stream", "seq"),
        sa.UniqueConstraint("id", name="uq_event_id"),
    )
    create_index("event", "run_id", "at")

    create_table(
        "job_revision",
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("job", sa.String(length=100), nullable=False),
        sa.Column("spec", LongText, nullable=False),
        sa.Column("first_seen_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("revision"),
    )
    create_index("job_revision", "job", "first_seen_at")

    create_table(
        "job_run",
        sa.Column("id", Id, nullable=False),
        sa.Column("job", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=True),
        sa.Column("flow", sa.String(length=255), nullable=False),
        sa.Column("deployment", sa.String(length=255), nullable=True),
        sa.Column("params", LongText, nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("message", LongText, nullable=False),
        sa.Column("started_at", UtcTime, nullable=False),
        sa.Column("ended_at", UtcTime, nullable=True),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    create_index("job_run", "job", "started_at")
    create_index("job_run", "started_at")
    create_index("job_run", "state", "started_at")

    create_table(
        "step_run",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("step", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("effect", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=32), nullable=False),
        sa.Column("inputs", LongText, nullable=False),
        sa.Column("output", LongText, nullable=True),
        sa.Column("error_class", sa.String(length=255), nullable=True),
        sa.Column("error", LongText, nullable=True),
        sa.Column("started_at", UtcTime, nullable=False),
        sa.Column("ended_at", UtcTime, nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    create_index("step_run", "run_id", "started_at")
    create_index("step_run", "state", "started_at")

    create_table(
        "stream",
        sa.Column("id", Id, nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )


def downgrade() -> None:
    """Take back."""
    op.drop_table("stream")
    op.drop_table("step_run")
    op.drop_table("job_run")
    op.drop_table("job_revision")
    op.drop_table("event")
    op.drop_table("device_command")
