"""From events to the tables that people query: each event has one way to show in them.

A batch of events is folded before anything is written: a step that starts and ends in one batch is
one row, written once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Table
from sqlalchemy.engine import Connection

from smartops.audit import alert_tables, models, report_tables
from smartops.audit.alert_facts import FACTS, kind_of
from smartops.audit.column_types import Id, UtcTime
from smartops.audit.journal_reader import Record, Writer
from smartops.audit.row_writing import Changes

Body = dict[str, Any]
_KNOWN = ("ended_at", "told_by", "log_lines", "process", "state")
_SUSPENDED = ("suspended", "needs_decision")


class Projection:
    """Shows a batch of one stream's events in the tables, on a connection in a transaction."""

    def __init__(self, connection: Connection, writer: Writer, *, alerting: bool = False) -> None:
        self.connection = connection
        self.writer = writer
        self.alerting = alerting
        """Whether facts that may deserve an alert go into the outbox."""
        self.changes = Changes(connection)
        self._runs: dict[bytes, Body] = {}

    def apply(self, records: Sequence[Record]) -> None:
        """Show the events. One whose type is not known stays in the events alone."""
        self._load_runs(records)
        for record in records:
            show = _SHOW.get(record.type)
            if show is not None or (self.alerting and record.type in FACTS):
                body = json.loads(record.body)
                if self.alerting:
                    self._put_out(record, body)
                if show is not None:
                    show(self, record, body)
        self.changes.write()

    def _put_out(self, record: Record, body: Body) -> None:
        """Put what may deserve an alert, or says that all is well again, into the outbox."""
        state = self._runs.get(record.run_id, {}).get("state")
        kind = kind_of(record.type, body, state in _SUSPENDED)
        if kind is not None:
            row: Body = {"id": record.id, "kind": kind, "run_id": record.run_id}
            row |= {"at": record.at, "body": _text(body)}
            self.changes.insert(alert_tables.alert_fact, record.id, row)

    def _load_runs(self, records: Sequence[Record]) -> None:
        """Read and lock the rows of the runs that the batch says something about."""
        wanted = {r.run_id for r in records if r.type == "log" or r.type.startswith("run.")}
        ids = sorted(wanted)
        table = models.job_run
        columns = [table.c[name] for name in ("id", *_KNOWN)]
        query = sa.select(*columns).where(table.c.id.in_(ids)).order_by(table.c.id)
        if ids:
            rows = self.connection.execute(query.with_for_update()).mappings()
            self._runs = {row["id"].bytes: dict(row) for row in rows}

    # --- runs ---------------------------------------------------------------------------------

    def run_started(self, record: Record, body: Body) -> None:
        """Show that a run begins; or begins again; or that its own process is heard at last."""
        if body.get("revision"):
            self.revision(record, body)
        told_by = body.get("told_by", "own")
        secondary = bool(body.get("secondary"))
        of_process = told_by == "own" and not secondary
        started = datetime.fromisoformat(body["at"]) if body.get("at") else record.at
        values = {
            "job": body["job"],
            "kind": body["kind"],
            "revision": body.get("revision"),
            "flow": body["flow"],
            "deployment": body.get("deployment"),
            "params": _text(body["params"]),
            "state": "running",
            "message": "",
            "ended_at": None,
            "host": body.get("host") or self.writer.host,
            "pid": body.get("pid") or self.writer.pid,
            "process": self.writer.process if of_process else None,
            "home": self.writer.home if of_process else None,
            "requested_by": body.get("requested_by"),
            "told_by": told_by,
            "evidence": None,
            "parent": _id(body["parent"]) if body.get("parent") else None,
            "resumes": _id(body["resumes"]) if body.get("resumes") else None,
            "rehearsal": bool(body.get("rehearsal")),
            "output": None,
        }
        known = self._runs.get(record.run_id)
        if known is None:
            row = {"id": record.run_id, "started_at": started, "log_lines": 0, **values}
            self.changes.insert(models.job_run, record.run_id, row)
            self._runs[record.run_id] = {key: row[key] for key in _KNOWN}
            return
        own = told_by == "own"
        first_word = own and (known["told_by"] != "own" or known["process"] is None)
        again = known["ended_at"] is not None and known["ended_at"] < started
        again = (again and not secondary) or known["state"] in _SUSPENDED
        if (first_word and not secondary) or (again and (own or known["told_by"] == told_by)):
            if first_word and not again:
                values["started_at"] = started  # whoever's word came first
            self.changes.update(models.job_run, record.run_id, values)
            known.update({key: values[key] for key in _KNOWN if key in values})

    def run_ended(self, record: Record, body: Body) -> None:
        """Show the end of a run. Its own process is believed before others who conclude."""
        known = self._runs.get(record.run_id)
        told_by = body.get("told_by", "own")
        if known is None or (told_by != "own" and known["ended_at"] is not None):
            return
        ended = datetime.fromisoformat(body["at"]) if body.get("at") else record.at
        values = {"state": body["state"], "message": body["message"], "ended_at": ended}
        evidence = body.get("evidence")
        values["evidence"] = _text(evidence) if evidence else None
        values["output"] = _text(body["output"]) if "output" in body else None
        self.changes.update(models.job_run, record.run_id, values)
        known.update(ended_at=ended, state=body["state"])

    def run_suspended(self, record: Record, body: Body) -> None:
        """Show that a run's process has ended and the run has not: it is to be resumed."""
        known = self._runs.get(record.run_id)
        if known is not None and known["ended_at"] is None:
            state = body.get("state", "suspended")
            values = {"state": state, "message": body["message"]}
            self.changes.update(models.job_run, record.run_id, values)
            known["state"] = state

    def revision(self, record: Record, body: Body) -> None:
        """Show a revision of a job that may have been seen before."""
        row = {
            "revision": body["revision"],
            "job": body["job"],
            "spec": body["spec"],
            "first_seen_at": record.at,
            "author": body.get("author"),
            "source": body.get("source"),
        }
        self.changes.insert_if_new(models.job_revision, body["revision"], row)

    # --- steps and device commands ------------------------------------------------------------

    def step_started(self, record: Record, body: Body) -> None:
        """Show that an attempt of a step begins."""
        step = _id(body["step_run_id"])
        row = {
            "id": step,
            "run_id": record.run_id,
            "step": body["step"],
            "kind": body["kind"],
            "effect": body["effect"],
            "attempt": body["attempt"],
            "state": "running",
            "inputs": _text(body["inputs"]),
            "output": None,
            "error_class": None,
            "error": None,
            "started_at": datetime.fromisoformat(body["at"]) if body.get("at") else record.at,
            "ended_at": None,
            "host": self.writer.host,
            "pid": self.writer.pid,
        }
        if body.get("told_by", "own") == "own":
            self.changes.insert(models.step_run, step, row)
        else:
            self.changes.insert_if_new(models.step_run, step, row)

    def step_ended(self, record: Record, body: Body) -> None:
        """Show the end of an attempt; an end that others conclude only where it has none."""
        step = _id(body["step_run_id"])
        values = {
            "state": body["state"],
            "output": _text(body.get("output")),
            "error_class": body.get("error_class"),
            "error": body.get("error"),
            "ended_at": datetime.fromisoformat(body["at"]) if body.get("at") else record.at,
        }
        own = body.get("told_by", "own") == "own"
        self.changes.update(models.step_run, step, values, unless=None if own else "ended_at")
        for asked in body.get("exchanges", ()):
            row = {"step_run_id": step, "run_id": record.run_id, "at": record.at, **asked}
            self.changes.insert(models.device_exchange, (step, asked["device"]), row)

    def command_intended(self, record: Record, body: Body) -> None:
        """Show a device command that is about to be sent."""
        command = _id(body["command_id"])
        row = {
            "id": command,
            "run_id": record.run_id,
            "step_run_id": _id(body["step_run_id"]),
            "device": body["device"],
            "tag": body["tag"],
            "unit": body["unit"],
            "before_value": _text(body["before"]),
            "requested_value": _text(body["requested"]),
            "after_value": None,
            "state": "unknown",
            "verified": None,
            "restored": False,
            "reason": "",
            "approver": body.get("approver") or None,
            "requested_at": record.at,
            "concluded_at": None,
        }
        self.changes.insert(models.device_command, command, row)

    def command_concluded(self, record: Record, body: Body) -> None:
        """Show how a device command ended."""
        values = {
            "state": body["state"],
            "after_value": _text(body["after"]),
            "verified": {"confirmed": True, "mismatch": False}.get(body["state"]),
            "restored": body["restored"],
            "reason": body["reason"],
            "concluded_at": record.at,
        }
        self.changes.update(models.device_command, _id(body["command_id"]), values)

    # --- what comes in numbers ----------------------------------------------------------------

    def log(self, record: Record, body: Body) -> None:
        """Show a line of a run's log; its number follows the run's last one without a gap."""
        known = self._runs.get(record.run_id)
        if known is None:
            return
        known["log_lines"] += 1
        self.changes.update(models.job_run, record.run_id, {"log_lines": known["log_lines"]})
        step = body.get("step_run_id")
        key = (record.run_id, known["log_lines"])
        row = {
            "run_id": record.run_id,
            "number": known["log_lines"],
            "stream": self.writer.stream,
            "seq": record.seq,
            "step_run_id": _id(step) if step else None,
            "at": datetime.fromisoformat(body["at"]) if body.get("at") else record.at,
            "level": body["level"],
            "logger": body["logger"],
            "message": body["message"] if isinstance(body["message"], str) else _text(body),
        }
        self.changes.insert(models.log_line, key, row)

    def readings(self, record: Record, body: Body) -> None:
        """Show what a device said, for steps that keep their readings."""
        for item, reading in enumerate(body["readings"]):
            value, source_at = reading["value"], reading.get("source_at")
            number = isinstance(value, (int, float))
            row = {
                "stream": self.writer.stream,
                "seq": record.seq,
                "item": item,
                "run_id": record.run_id,
                "step_run_id": _id(body["step_run_id"]),
                "device": body["device"],
                "tag": reading["tag"],
                "value": None if value is None else _text(value),
                "number": float(value) if number else None,
                "unit": reading["unit"],
                "quality": reading["quality"],
                "reason": reading["reason"],
                "source_at": datetime.fromisoformat(source_at) if source_at else None,
                "received_at": datetime.fromisoformat(reading["received_at"]),
            }
            self.changes.insert(models.reading, (row["stream"], row["seq"], item), row)

    # --- processes ----------------------------------------------------------------------------

    def process_claimed(self, record: Record, body: Body) -> None:
        """Show that a worker takes a run."""
        claim = _id(body["claim_id"])
        self.changes.insert(models.run_process, claim, self._claim(record, body))

    def _claim(self, record: Record, body: Body) -> Body:
        return {
            "id": _id(body["claim_id"]),
            "run_id": record.run_id,
            "worker": body["worker"],
            "host": self.writer.host,
            "process": self.writer.process,
            "home": self.writer.home,
            "claimed_at": record.at,
            "pid": None,
            "started_at": None,
            "exited_at": None,
            "exit_status": None,
            "cause": None,
            "left_behind": None,
            "still_alive": None,
        }

    def process_started(self, record: Record, body: Body) -> None:
        """Show that the process of a run has started."""
        claim = _id(body["claim_id"])
        values = {"pid": body["pid"], "started_at": record.at}
        self.changes.insert_if_new(
            models.run_process, claim, {**self._claim(record, body), **values}
        )
        self.changes.update(models.run_process, claim, values)

    def process_exited(self, record: Record, body: Body) -> None:
        """Show that the process of a run has ended, or was not started after all."""
        values = {"exit_status": body["exit_status"], "exited_at": record.at}
        values["cause"] = body.get("cause") and body["cause"][:255]
        for name in ("left_behind", "still_alive"):
            values[name] = _text(body[name]) if name in body else None
        self.changes.update(models.run_process, _id(body["claim_id"]), values)

    def slot(self, record: Record, body: Body) -> None:
        """Show what became of a time at which a schedule should have fired."""
        row = {
            "id": _id(body["slot_id"]),
            "deployment": body["deployment"],
            "job": body["job"],
            "due_at": datetime.fromisoformat(body["due_at"]),
            "schedule": body["schedule"],
            "outcome": body["outcome"],
            "reason": body["reason"],
            "run_id": _id(body["slot_run_id"]) if body.get("slot_run_id") else None,
            "told_at": record.at,
        }
        self.changes.insert_or_update(models.slot, row["id"], row)


def _id(text: str) -> bytes:
    """Return the bytes of a UUID that is written as text."""
    return bytes.fromhex(text.replace("-", ""))


_text = json.JSONEncoder(ensure_ascii=False).encode


def _as_row(table: Table) -> Callable[[Projection, Record, Body], None]:
    """Return how an event shows as one row whose columns its body names; its id is the event's."""

    def show(projection: Projection, record: Record, body: Body) -> None:
        row = {
            column.name: _value(column, body.get(column.name), record) for column in table.columns
        }
        row["id"] = record.id
        if "run_id" in row:
            row["run_id"] = record.run_id
        projection.changes.insert(table, row["id"], row)

    return show


def _value(column: sa.Column[Any], value: Any, record: Record) -> Any:
    if isinstance(column.type, UtcTime):
        if value is None and not column.nullable:
            return record.at
        return value and datetime.fromisoformat(value)
    if isinstance(column.type, Id):
        return value and _id(value)
    return value


_SHOW: dict[str, Callable[[Projection, Record, Body], None]] = {
    "run.started": Projection.run_started,
    "run.ended": Projection.run_ended,
    "run.suspended": Projection.run_suspended,
    "revision": Projection.revision,
    "step.started": Projection.step_started,
    "step.ended": Projection.step_ended,
    "command.intended": Projection.command_intended,
    "command.concluded": Projection.command_concluded,
    "log": Projection.log,
    "readings": Projection.readings,
    "process.claimed": Projection.process_claimed,
    "process.started": Projection.process_started,
    "process.exited": Projection.process_exited,
    "slot": Projection.slot,
    "artifact": _as_row(models.artifact),
    "child.started": _as_row(models.child_run),
    "device": _as_row(models.device_change),
    "approval": _as_row(models.approval),
    "job.changed": _as_row(models.job_change),
    "decision": _as_row(models.decision),
    "alert": _as_row(alert_tables.alert),
    "alert.delivery": _as_row(alert_tables.alert_delivery),
    "alert.answer": _as_row(alert_tables.alert_answer),
    "report": _as_row(models.report),
    "quality": _as_row(models.quality_result),
    "hold": _as_row(models.hold),
    "lock.waited": _as_row(report_tables.lock_wait),
}
