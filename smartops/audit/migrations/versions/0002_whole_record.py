"""The whole record: seals, log lines, readings, slots, artifacts and who decided what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from smartops.audit.column_types import Digest, Id, LongText, UtcTime
from smartops.audit.migrations.chaining import chain_old_events, unchain_events
from smartops.audit.migrations.guarding import guard, unguard
from smartops.audit.migrations.partitions import partition
from smartops.audit.migrations.resumable import (
    add_columns,
    create_index,
    create_table,
    drop_columns,
    drop_index,
    drop_tables,
    has_column,
)

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NEW = (
    "alert",
    "alert_delivery",
    "approval",
    "artifact",
    "decision",
    "event_held",
    "hold",
    "log_line",
    "reading",
    "report",
    "run_process",
    "seal",
    "seal_part",
    "slot",
)


def upgrade() -> None:
    """Apply."""
    _create_tables()
    _extend_tables()
    chain_old_events()
    for name in ("event", "log_line", "reading"):
        partition(op.get_bind(), name)
    guard(op.get_bind())


def _create_tables() -> None:
    create_table(
        "alert",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("rule", sa.String(length=255), nullable=False),
        sa.Column("severity", sa.String(length=16), nullable=False),
        sa.Column("title", sa.String(length=255), nullable=False),
        sa.Column("text", LongText, nullable=False),
        sa.Column("raised_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("run_id", "raised_at")],
    )
    create_table(
        "alert_delivery",
        sa.Column("id", Id, nullable=False),
        sa.Column("alert_id", Id, nullable=False),
        sa.Column("channel", sa.String(length=64), nullable=False),
        sa.Column("recipient", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[
            ("alert_id", "at"),
        ],
    )
    create_table(
        "approval",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("step_run_id", Id, nullable=True),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.Column("comment", LongText, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("person", "at"), ("run_id", "at")],
    )
    create_table(
        "artifact",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("step_run_id", Id, nullable=True),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("media_type", sa.String(length=127), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("place", LongText, nullable=False),
        sa.Column("stored_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[
            ("run_id", "stored_at"),
        ],
    )
    create_table(
        "decision",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("step_run_id", Id, nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.Column("comment", LongText, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("person", "at"), ("run_id", "at")],
    )
    create_table(
        "event_held",
        sa.Column("stream", Id, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("run_seq", sa.BigInteger(), nullable=False),
        sa.Column("type", sa.String(length=32), nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("body", LongText, nullable=False),
        sa.Column("hash", Digest(32), nullable=False),
        sa.PrimaryKeyConstraint("stream", "seq"),
        indexes=[("run_id", "at")],
    )
    create_table(
        "hold",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("placed", sa.Boolean(), nullable=False),
        sa.Column("person", sa.String(length=255), nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("run_id", "at")],
    )
    create_table(
        "log_line",
        sa.Column("stream", Id, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("step_run_id", Id, nullable=True),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("logger", sa.String(length=255), nullable=False),
        sa.Column("message", LongText, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "number", "stream"),
    )
    create_table(
        "reading",
        sa.Column("stream", Id, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("item", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("step_run_id", Id, nullable=False),
        sa.Column("device", sa.String(length=255), nullable=False),
        sa.Column("tag", sa.String(length=64), nullable=False),
        sa.Column("value", sa.Text(), nullable=True),
        sa.Column("number", sa.Double(), nullable=True),
        sa.Column("unit", sa.String(length=32), nullable=False),
        sa.Column("quality", sa.String(length=16), nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("source_at", UtcTime, nullable=True),
        sa.Column("received_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("stream", "seq", "item"),
        indexes=[("device", "tag", "received_at"), ("run_id",)],
    )
    create_table(
        "report",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("period_from", UtcTime, nullable=True),
        sa.Column("period_to", UtcTime, nullable=True),
        sa.Column("media_type", sa.String(length=127), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("place", LongText, nullable=False),
        sa.Column("made_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("name", "made_at")],
    )
    create_table(
        "run_process",
        sa.Column("id", Id, nullable=False),
        sa.Column("run_id", Id, nullable=False),
        sa.Column("worker", sa.String(length=255), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("process", Id, nullable=False),
        sa.Column("home", Id, nullable=False),
        sa.Column("claimed_at", UtcTime, nullable=False),
        sa.Column("pid", sa.Integer(), nullable=True),
        sa.Column("started_at", UtcTime, nullable=True),
        sa.Column("exited_at", UtcTime, nullable=True),
        sa.Column("exit_status", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("exited_at", "claimed_at"), ("run_id", "claimed_at")],
    )
    create_table(
        "seal",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("before", Digest(32), nullable=False),
        sa.Column("root", Digest(32), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("sealed_at", UtcTime, nullable=False),
        sa.Column("key_id", Digest(16), nullable=False),
        sa.Column("public_key", Digest(32), nullable=False),
        sa.Column("hash", Digest(32), nullable=False),
        sa.Column("signature", Digest(64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    create_table(
        "seal_part",
        sa.Column("seal", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stream", Id, nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("root", Digest(32), nullable=False),
        sa.PrimaryKeyConstraint("seal", "stream"),
        indexes=[("stream", "first_seq")],
    )
    create_table(
        "slot",
        sa.Column("id", Id, nullable=False),
        sa.Column("deployment", sa.String(length=255), nullable=False),
        sa.Column("job", sa.String(length=255), nullable=False),
        sa.Column("due_at", UtcTime, nullable=False),
        sa.Column("schedule", sa.String(length=255), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", LongText, nullable=False),
        sa.Column("run_id", Id, nullable=True),
        sa.Column("told_at", UtcTime, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("due_at",), ("job", "due_at"), ("deployment", "due_at"), ("outcome", "due_at")],
    )


def _extend_tables() -> None:
    add_columns(
        "device_command",
        sa.Column("verified", sa.Boolean(), nullable=True),
        sa.Column("approver", sa.String(255), nullable=True),
    )
    add_columns(
        "job_revision",
        sa.Column("author", sa.String(255), nullable=True),
        sa.Column("source", sa.String(255), nullable=True),
    )
    add_columns(
        "job_run",
        sa.Column("process", Id, nullable=True),
        sa.Column("home", Id, nullable=True),
        sa.Column("requested_by", sa.String(255), nullable=True),
        sa.Column("told_by", sa.String(16), server_default="own", nullable=False),
        sa.Column("evidence", LongText, nullable=True),
        sa.Column("log_lines", sa.BigInteger(), server_default="0", nullable=False),
    )
    for columns in (("started_at",), ("job", "started_at"), ("state", "started_at")):
        drop_index("job_run", *columns)
        create_index("job_run", *columns, "id")
    create_index("job_run", "requested_by", "started_at", "id")
    add_columns(
        "step_run",
        sa.Column("host", sa.String(255), nullable=True),
        sa.Column("pid", sa.Integer(), nullable=True),
    )
    add_columns(
        "stream",
        sa.Column("process", Id, nullable=True),
        sa.Column("home", Id, nullable=True),
        sa.Column("sealed_seq", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("sealed", sa.Boolean(), server_default="0", nullable=False),
    )
    create_index("stream", "sealed")


def downgrade() -> None:
    """Take back. The events stay; what only the new tables show is derived from them again."""
    unguard(op.get_bind())
    drop_tables(*_NEW)
    drop_index("stream", "sealed")
    drop_columns("stream", "process", "home", "sealed_seq", "sealed")
    drop_columns("step_run", "host", "pid")
    drop_index("job_run", "requested_by", "started_at", "id")
    for columns in (("started_at",), ("job", "started_at"), ("state", "started_at")):
        drop_index("job_run", *columns, "id")
        create_index("job_run", *columns)
    drop_columns("job_run", "process", "home", "requested_by", "told_by", "evidence", "log_lines")
    drop_columns("job_revision", "author", "source")
    drop_columns("device_command", "verified", "approver")
    if has_column("event", "hash"):
        unchain_events()
