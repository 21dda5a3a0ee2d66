"""The tables of alerts: what may deserve one, what was raised, what was said, and who answered."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table

from smartops.audit.column_types import Id, LongText, UtcTime
from smartops.audit.models import OPTIONS, metadata


def _required(name: str, kind: object) -> Column[object]:
    return Column(name, kind, nullable=False)  # type: ignore[arg-type]


# --- on record: only ever added to --------------------------------------------------------------

alert = Table(
    "alert",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    _required("run_id", Id),
    _required("rule", String(255)),
    _required("severity", String(16)),
    _required("title", String(255)),
    _required("text", LongText),
    _required("raised_at", UtcTime),
    Index(None, "run_id", "raised_at"),
    **OPTIONS,
)
"""What was worth an alert: what a connection says of its device, and what a rule found."""

alert_delivery = Table(
    "alert_delivery",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    _required("alert_id", Id),
    _required("channel", String(64)),
    _required("recipient", String(255)),
    _required("state", String(16)),
    _required("reason", LongText),
    _required("at", UtcTime),
    Column("rule", String(255)),
    Column("run_id", Id),
    Column("message_id", Id),
    Index(None, "alert_id", "at"),
    Index(None, "at"),
    **OPTIONS,
)
"""Each attempt to send (``sent``, ``failed``), and each decision not to (``not_sent``)."""

alert_answer = Table(
    "alert_answer",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("alert_id", Id),
    Column("target", String(255)),
    _required("action", String(16)),
    Column("until", UtcTime),
    _required("person", String(255)),
    _required("comment", LongText),
    _required("at", UtcTime),
    Index(None, "alert_id", "at"),
    Index(None, "action", "at"),
    **OPTIONS,
)
"""What people said to alerts: ``ack``, ``mute``, ``unmute``."""

# --- what is being worked on --------------------------------------------------------------------

alert_switch = Table(
    "alert_switch",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _required("since", UtcTime),
    _required("seen_at", UtcTime),
    **OPTIONS,
)
"""One row since the first alerter was started: from then on facts are put into the outbox."""

alert_fact = Table(
    "alert_fact",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    _required("kind", String(16)),
    _required("run_id", Id),
    _required("at", UtcTime),
    _required("body", LongText),
    **OPTIONS,
)
"""The outbox: facts that nobody has judged yet, written together with what they tell of."""

alert_episode = Table(
    "alert_episode",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    _required("fingerprint", String(64)),
    _required("rule", String(255)),
    _required("subject", String(255)),
    _required("severity", String(16)),
    _required("state", String(16)),
    _required("run_id", Id),
    _required("last_run_id", Id),
    _required("title", String(255)),
    _required("details", LongText),
    _required("routes", LongText),
    _required("count", BigInteger),
    _required("level", Integer),
    _required("raised_at", UtcTime),
    _required("last_at", UtcTime),
    Column("said_at", UtcTime),
    Column("ended_at", UtcTime),
    Index(None, "fingerprint", "state"),
    Index(None, "state", "raised_at"),
    **OPTIONS,
)
"""An alert from its first fact to its recovery: how often, how far escalated. Its id is the
alert's."""

alert_message = Table(
    "alert_message",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    _required("alert_id", Id),
    _required("channel", String(64)),
    _required("kind", String(16)),
    _required("group_key", String(255)),
    _required("state", String(16)),
    _required("made_at", UtcTime),
    _required("due_at", UtcTime),
    _required("attempts", Integer),
    _required("reason", LongText),
    Column("instead_of", String(64)),
    Column("batch", Id),
    Column("claimed_by", String(255)),
    Column("lease_until", UtcTime),
    Column("tried_at", UtcTime),
    Column("sent_at", UtcTime),
    Column("remote", String(255)),
    Index(None, "state", "due_at"),
    Index(None, "alert_id", "channel"),
    Index(None, "channel", "sent_at"),
    Index(None, "batch"),
    **OPTIONS,
)
"""What is to be said of an alert on a channel. A batch is sent as one, under one key."""
