"""The tables of alerts: what may deserve one, what was raised, what was said, and who answered."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String

from smartops.audit.column_types import Id, LongText, UtcTime
from smartops.audit.table_parts import key, required, table

# --- on record: only ever added to --------------------------------------------------------------

alert = table(
    "alert",
    key("id", Id),
    required("run_id", Id),
    required("rule", String(255)),
    required("severity", String(16)),
    required("title", String(255)),
    required("text", LongText),
    required("raised_at", UtcTime),
    Index(None, "run_id", "raised_at"),
)
"""What was worth an alert: what a connection says of its device, and what a rule found."""

alert_delivery = table(
    "alert_delivery",
    key("id", Id),
    required("alert_id", Id),
    required("channel", String(64)),
    required("recipient", String(255)),
    required("state", String(16)),
    required("reason", LongText),
    required("at", UtcTime),
    Column("rule", String(255)),
    Column("run_id", Id),
    Column("message_id", Id),
    Index(None, "alert_id", "at"),
    Index(None, "at"),
)
"""Each attempt to send (``sent``, ``failed``), and each decision not to (``not_sent``)."""

alert_answer = table(
    "alert_answer",
    key("id", Id),
    Column("alert_id", Id),
    Column("target", String(255)),
    required("action", String(16)),
    Column("until", UtcTime),
    required("person", String(255)),
    required("comment", LongText),
    required("at", UtcTime),
    Index(None, "alert_id", "at"),
    Index(None, "action", "at"),
)
"""What people said to alerts: ``ack``, ``mute``, ``unmute``."""

# --- what is being worked on --------------------------------------------------------------------

alert_switch = table(
    "alert_switch",
    key("id", Integer),
    required("since", UtcTime),
    required("seen_at", UtcTime),
)
"""One row since the first alerter was started: from then on facts are put into the outbox."""

alert_fact = table(
    "alert_fact",
    key("id", Id),
    required("kind", String(16)),
    required("run_id", Id),
    required("at", UtcTime),
    required("body", LongText),
)
"""The outbox: facts that nobody has judged yet, written together with what they tell of."""

alert_episode = table(
    "alert_episode",
    key("id", Id),
    required("fingerprint", String(64)),
    required("rule", String(255)),
    required("subject", String(255)),
    required("severity", String(16)),
    required("state", String(16)),
    required("run_id", Id),
    required("last_run_id", Id),
    required("title", String(255)),
    required("details", LongText),
    required("routes", LongText),
    required("count", BigInteger),
    required("level", Integer),
    required("raised_at", UtcTime),
    required("last_at", UtcTime),
    Column("said_at", UtcTime),
    Column("ended_at", UtcTime),
    Index(None, "fingerprint", "state"),
    Index(None, "state", "raised_at"),
)
"""An alert from its first fact to its recovery: how often, how far escalated. Its id is the
alert's."""

alert_message = table(
    "alert_message",
    key("id", Id),
    required("alert_id", Id),
    required("channel", String(64)),
    required("kind", String(16)),
    required("group_key", String(255)),
    required("state", String(16)),
    required("made_at", UtcTime),
    required("due_at", UtcTime),
    required("attempts", Integer),
    required("reason", LongText),
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
)
"""What is to be said of an alert on a channel. A batch is sent as one, under one key."""
