"""The tables of the audit store, one definition for SQLite, MariaDB and MySQL.

Ids are UUIDs in 16 bytes, made by the writer, so that a replay finds its own row. Names and ids
compare byte by byte. Times are UTC with microseconds. JSON is kept as text: MySQL reorders the
keys of a JSON column.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, String, Table, Text

from smartops.audit import table_parts
from smartops.audit.column_types import Digest, Id, LongText, UtcTime
from smartops.audit.table_parts import key as _key
from smartops.audit.table_parts import required as _required
from smartops.audit.table_parts import table as _table

metadata = table_parts.metadata

# --- the record itself: only ever added to ----------------------------------------------------


def _event_table(name: str) -> Table:
    return _table(
        name,
        _key("stream", Id),
        _key("seq", BigInteger),
        _required("id", Id),
        _required("run_id", Id),
        _required("run_seq", BigInteger),
        _required("type", String(32)),
        _required("at", UtcTime),
        _required("body", LongText),
        _required("hash", Digest),
        Index(None, "run_id", "at"),
    )


event = _event_table("event")
event_held = _event_table("event_held")
"""Events of runs under legal hold, kept when the rest of their month is pruned."""

seal = _table(
    "seal",
    _key("number", BigInteger),
    _required("before", Digest),
    _required("root", Digest),
    _required("events", BigInteger),
    _required("sealed_at", UtcTime),
    _required("key_id", Digest(16)),
    _required("public_key", Digest(32)),
    _required("hash", Digest),
    _required("signature", Digest(64)),
)

seal_part = _table(
    "seal_part",
    _key("seal", BigInteger),
    _key("stream", Id),
    _required("first_seq", BigInteger),
    _required("last_seq", BigInteger),
    _required("root", Digest),
    Index(None, "stream", "first_seq"),
)

# --- what is derived from it: can be made again -------------------------------------------------

stream = _table(
    "stream",
    _key("id", Id),
    _required("host", String(255)),
    _required("pid", Integer),
    Column("process", Id),
    Column("home", Id),
    _required("last_seq", BigInteger),
    Column("sealed_seq", BigInteger, nullable=False, server_default="0"),
    Column("sealed", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Index(None, "sealed"),
)

job_revision = _table(
    "job_revision",
    Column("revision", String(64), primary_key=True),
    _required("job", String(100)),
    _required("spec", LongText),
    _required("first_seen_at", UtcTime),
    Column("author", String(255)),
    Column("source", String(255)),
    Index(None, "job", "first_seen_at"),
)

job_change = _table(
    "job_change",
    _key("id", Id),
    _required("job", String(255)),
    _required("action", String(16)),
    Column("revision", String(64)),
    Column("before", String(64)),
    _required("person", String(255)),
    _required("source", String(255)),
    _required("at", UtcTime),
    Index(None, "job", "at"),
    Index(None, "person", "at"),
)

job_run = _table(
    "job_run",
    _key("id", Id),
    _required("job", String(255)),
    _required("kind", String(16)),
    Column("revision", String(64)),
    _required("flow", String(255)),
    Column("deployment", String(255)),
    _required("params", LongText),
    _required("state", String(32)),
    _required("message", LongText),
    _required("started_at", UtcTime),
    Column("ended_at", UtcTime),
    _required("host", String(255)),
    _required("pid", Integer),
    Column("process", Id),
    Column("home", Id),
    Column("requested_by", String(255)),
    Column("told_by", String(16), nullable=False, server_default="own"),
    Column("evidence", LongText),
    Column("parent", Id),
    Column("resumes", Id),
    Column("rehearsal", Boolean(create_constraint=False), nullable=False, server_default="0"),
    Column("output", LongText),
    Column("log_lines", BigInteger, nullable=False, server_default="0"),
    Index(None, "started_at", "id"),
    Index(None, "job", "started_at", "id"),
    Index(None, "state", "started_at", "id"),
    Index(None, "requested_by", "started_at", "id"),
    Index(None, "parent"),
    Index(None, "resumes"),
)

step_run = _table(
    "step_run",
    _key("id", Id),
    _required("run_id", Id),
    _required("step", String(255)),
    _required("kind", String(64)),
    _required("effect", String(16)),
    _required("attempt", Integer),
    _required("state", String(32)),
    _required("inputs", LongText),
    Column("output", LongText),
    Column("error_class", String(255)),
    Column("error", LongText),
    _required("started_at", UtcTime),
    Column("ended_at", UtcTime),
    Column("host", String(255)),
    Column("pid", Integer),
    Index(None, "run_id", "started_at"),
    Index(None, "state", "started_at"),
)

device_command = _table(
    "device_command",
    _key("id", Id),
    _required("run_id", Id),
    _required("step_run_id", Id),
    _required("device", String(255)),
    _required("tag", String(64)),
    _required("unit", String(32)),
    Column("before_value", Text),
    _required("requested_value", Text),
    Column("after_value", Text),
    _required("state", String(16)),
    Column("verified", Boolean(create_constraint=False)),
    _required("restored", Boolean(create_constraint=False)),
    _required("reason", LongText),
    Column("approver", String(255)),
    _required("requested_at", UtcTime),
    Column("concluded_at", UtcTime),
    Index(None, "run_id", "requested_at"),
    Index(None, "device", "requested_at"),
)

log_line = _table(
    "log_line",
    _key("run_id", Id),
    _key("number", BigInteger),
    _key("stream", Id),
    _required("seq", BigInteger),
    Column("step_run_id", Id),
    _required("at", UtcTime),
    _required("level", Integer),
    _required("logger", String(255)),
    _required("message", LongText),
)

reading = _table(
    "reading",
    _key("stream", Id),
    _key("seq", BigInteger),
    _key("item", Integer),
    _required("run_id", Id),
    _required("step_run_id", Id),
    _required("device", String(255)),
    _required("tag", String(64)),
    Column("value", Text),
    Column("number", Double),
    _required("unit", String(32)),
    _required("quality", String(16)),
    _required("reason", LongText),
    Column("source_at", UtcTime),
    _required("received_at", UtcTime),
    Index(None, "device", "tag", "received_at"),
    Index(None, "run_id"),
)

slot = _table(
    "slot",
    _key("id", Id),
    _required("deployment", String(255)),
    _required("job", String(255)),
    _required("due_at", UtcTime),
    _required("schedule", String(255)),
    _required("outcome", String(16)),
    _required("reason", LongText),
    Column("run_id", Id),
    _required("told_at", UtcTime),
    Index(None, "due_at"),
    Index(None, "job", "due_at"),
    Index(None, "deployment", "due_at"),
    Index(None, "outcome", "due_at"),
)

run_process = _table(
    "run_process",
    _key("id", Id),
    _required("run_id", Id),
    _required("worker", String(255)),
    _required("host", String(255)),
    _required("process", Id),
    _required("home", Id),
    _required("claimed_at", UtcTime),
    Column("pid", Integer),
    Column("started_at", UtcTime),
    Column("exited_at", UtcTime),
    Column("exit_status", Integer),
    Column("cause", String(255)),
    Column("left_behind", LongText),
    Column("still_alive", LongText),
    Index(None, "run_id", "claimed_at"),
    Index(None, "exited_at", "claimed_at"),
)

artifact = _table(
    "artifact",
    _key("id", Id),
    _required("run_id", Id),
    Column("step_run_id", Id),
    _required("name", String(255)),
    _required("media_type", String(127)),
    _required("bytes", BigInteger),
    _required("sha256", String(64)),
    _required("place", LongText),
    _required("stored_at", UtcTime),
    Index(None, "run_id", "stored_at"),
)

approval = _table(
    "approval",
    _key("id", Id),
    _required("run_id", Id),
    Column("step_run_id", Id),
    Column("step", String(255)),
    _required("subject", String(255)),
    _required("state", String(16)),
    _required("person", String(255)),
    _required("comment", LongText),
    Column("question", LongText),
    _required("at", UtcTime),
    Index(None, "run_id", "at"),
    Index(None, "person", "at"),
)

child_run = _table(
    "child_run",
    _key("id", Id),
    _required("run_id", Id),
    _required("step_run_id", Id),
    _required("child", Id),
    _required("job", String(255)),
    _required("at", UtcTime),
    Index(None, "run_id", "at"),
)

device_change = _table(
    "device_change",
    _key("id", Id),
    _required("run_id", Id),
    _required("device", String(255)),
    _required("resource", String(255)),
    _required("part", String(64)),
    _required("state", String(16)),
    _required("failures", Integer),
    _required("reason", LongText),
    _required("since", UtcTime),
    _required("at", UtcTime),
    Index(None, "device", "at"),
    Index(None, "at"),
)

decision = _table(
    "decision",
    _key("id", Id),
    _required("run_id", Id),
    Column("step_run_id", Id),
    Column("step", String(255)),
    _required("verdict", String(16)),
    _required("person", String(255)),
    _required("comment", LongText),
    _required("at", UtcTime),
    Index(None, "run_id", "at"),
    Index(None, "person", "at"),
)

report = _table(
    "report",
    _key("id", Id),
    _required("name", String(100)),
    Column("period_from", UtcTime),
    Column("period_to", UtcTime),
    _required("media_type", String(127)),
    _required("bytes", BigInteger),
    _required("sha256", String(64)),
    _required("place", LongText),
    _required("made_at", UtcTime),
    Index(None, "name", "made_at"),
)

hold = _table(
    "hold",
    _key("id", Id),
    _required("run_id", Id),
    _required("placed", Boolean(create_constraint=False)),
    _required("person", String(255)),
    _required("reason", LongText),
    _required("at", UtcTime),
    Index(None, "run_id", "at"),
)

quality_result = _table(
    "quality_result",
    _key("id", Id),
    _required("run_id", Id),
    Column("step_run_id", Id),
    _required("suite", String(100)),
    _required("dataset", String(100)),
    _required("expectation", String(100)),
    _required("subject", String(255)),
    _required("status", String(16)),
    _required("checked_rows", BigInteger),
    _required("bad_rows", BigInteger),
    Column("bad_share", Double),
    Column("warn_above", Double),
    Column("fail_above", Double),
    _required("sentence", LongText),
    Column("quarantined", BigInteger),
    _required("at", UtcTime),
    Index(None, "run_id", "at"),
    Index(None, "suite", "at"),
    Index(None, "status", "at"),
    Index(None, "at"),
)

device_exchange = _table(
    "device_exchange",
    _key("step_run_id", Id),
    Column("device", String(255), primary_key=True),
    _required("run_id", Id),
    _required("requests", BigInteger),
    _required("answered", BigInteger),
    _required("unanswered", BigInteger),
    _required("total_s", Double),
    _required("longest_s", Double),
    _required("at", UtcTime),
    Index(None, "run_id"),
    Index(None, "at"),
)
"""What an attempt of a step asked of a device, and how long the answers took."""
