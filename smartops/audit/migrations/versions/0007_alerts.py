"""Alerts: the outbox of facts, episodes, messages, and what people answer."""

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

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def _needed(name: str, kind: object) -> sa.Column[object]:
    return sa.Column(name, kind, nullable=False)  # type: ignore[arg-type]


def upgrade() -> None:
    """Apply."""
    add_columns(
        "alert_delivery",
        sa.Column("rule", sa.String(255), nullable=True),
        sa.Column("run_id", Id, nullable=True),
        sa.Column("message_id", Id, nullable=True),
    )
    create_index("alert_delivery", "at")
    create_table(
        "alert_answer",
        _needed("id", Id),
        sa.Column("alert_id", Id, nullable=True),
        sa.Column("target", sa.String(255), nullable=True),
        _needed("action", sa.String(16)),
        sa.Column("until", UtcTime, nullable=True),
        _needed("person", sa.String(255)),
        _needed("comment", LongText),
        _needed("at", UtcTime),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("alert_id", "at"), ("action", "at")],
    )
    create_table(
        "alert_switch",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        _needed("since", UtcTime),
        _needed("seen_at", UtcTime),
        sa.PrimaryKeyConstraint("id"),
    )
    create_table(
        "alert_fact",
        _needed("id", Id),
        _needed("kind", sa.String(16)),
        _needed("run_id", Id),
        _needed("at", UtcTime),
        _needed("body", LongText),
        sa.PrimaryKeyConstraint("id"),
    )
    _create_episodes_and_messages()


def _create_episodes_and_messages() -> None:
    create_table(
        "alert_episode",
        _needed("id", Id),
        _needed("fingerprint", sa.String(64)),
        _needed("rule", sa.String(255)),
        _needed("subject", sa.String(255)),
        _needed("severity", sa.String(16)),
        _needed("state", sa.String(16)),
        _needed("run_id", Id),
        _needed("last_run_id", Id),
        _needed("title", sa.String(255)),
        _needed("details", LongText),
        _needed("routes", LongText),
        _needed("count", sa.BigInteger),
        _needed("level", sa.Integer),
        _needed("raised_at", UtcTime),
        _needed("last_at", UtcTime),
        sa.Column("said_at", UtcTime, nullable=True),
        sa.Column("ended_at", UtcTime, nullable=True),
        sa.PrimaryKeyConstraint("id"),
        indexes=[("fingerprint", "state"), ("state", "raised_at")],
    )
    create_table(
        "alert_message",
        _needed("id", Id),
        _needed("alert_id", Id),
        _needed("channel", sa.String(64)),
        _needed("kind", sa.String(16)),
        _needed("group_key", sa.String(255)),
        _needed("state", sa.String(16)),
        _needed("made_at", UtcTime),
        _needed("due_at", UtcTime),
        _needed("attempts", sa.Integer),
        _needed("reason", LongText),
        sa.Column("instead_of", sa.String(64), nullable=True),
        sa.Column("batch", Id, nullable=True),
        sa.Column("claimed_by", sa.String(255), nullable=True),
        sa.Column("lease_until", UtcTime, nullable=True),
        sa.Column("tried_at", UtcTime, nullable=True),
        sa.Column("sent_at", UtcTime, nullable=True),
        sa.Column("remote", sa.String(255), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        indexes=[
            ("state", "due_at"),
            ("alert_id", "channel"),
            ("channel", "sent_at"),
            ("batch",),
        ],
    )


def downgrade() -> None:
    """Take back. What people answered is derived from the events again; the rest is lost."""
    drop_tables("alert_message", "alert_episode", "alert_fact", "alert_switch", "alert_answer")
    drop_index("alert_delivery", "at")
    drop_columns("alert_delivery", "rule", "run_id", "message_id")
