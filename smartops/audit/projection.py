"""From events to the tables that people query: each event has one way to show in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import exc
from sqlalchemy.engine import Connection

from smartops.audit import models
from smartops.audit.journal import Record

Body = dict[str, Any]


def event_row(stream: UUID, record: Record) -> dict[str, Any]:
    """Return the row of the event table for a record."""
    return {
        "stream": stream,
        "seq": record.seq,
        "id": record.id,
        "run_id": record.run_id,
        "type": record.type,
        "at": datetime.fromisoformat(record.at),
        "body": record.body,
    }


def apply(connection: Connection, record: Record, host: str, pid: int) -> None:
    """Show one event in the tables. An event type that is not known stays in the events alone."""
    show = _SHOW.get(record.type)
    if show is not None:
        body = json.loads(record.body)
        show(connection, record, {**body, "host": host, "pid": pid})


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _at(record: Record) -> datetime:
    return datetime.fromisoformat(record.at)


def _run_started(connection: Connection, record: Record, body: Body) -> None:
    if body.get("revision"):
        _revision_seen(connection, record, body)
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
        "host": body["host"],
        "pid": body["pid"],
    }
    table = models.job_run
    known = connection.execute(
        sa.select(table.c.ended_at).where(table.c.id == record.run_id).with_for_update()
    ).first()
    if known is None:
        connection.execute(
            sa.insert(table).values(id=record.run_id, started_at=_at(record), **values)
        )
    elif known.ended_at is not None and known.ended_at < _at(record):
        # Begun again after its end. A start that arrives late from another process is none.
        connection.execute(sa.update(table).where(table.c.id == record.run_id).values(**values))


def _revision_seen(connection: Connection, record: Record, body: Body) -> None:
    table = models.job_revision
    known = sa.select(table.c.revision).where(table.c.revision == body["revision"])
    if connection.execute(known).first() is not None:
        return
    try:
        with connection.begin_nested():
            connection.execute(
                sa.insert(table).values(
                    revision=body["revision"],
                    job=body["job"],
                    spec=body["spec"],
                    first_seen_at=_at(record),
                )
            )
    except exc.IntegrityError:
        return  # another worker's recorder was first with the same revision


def _run_ended(connection: Connection, record: Record, body: Body) -> None:
    connection.execute(
        sa.update(models.job_run)
        .where(models.job_run.c.id == record.run_id)
        .values(state=body["state"], message=body["message"], ended_at=_at(record))
    )


def _step_started(connection: Connection, record: Record, body: Body) -> None:
    connection.execute(
        sa.insert(models.step_run).values(
            id=UUID(body["step_run_id"]),
            run_id=record.run_id,
            step=body["step"],
            kind=body["kind"],
            effect=body["effect"],
            attempt=body["attempt"],
            state="running",
            inputs=_text(body["inputs"]),
            started_at=_at(record),
        )
    )


def _step_ended(connection: Connection, record: Record, body: Body) -> None:
    table = models.step_run
    connection.execute(
        sa.update(table)
        .where(table.c.id == UUID(body["step_run_id"]))
        .values(
            state=body["state"],
            output=_text(body.get("output")),
            error_class=body.get("error_class"),
            error=body.get("error"),
            ended_at=_at(record),
        )
    )


def _command_intended(connection: Connection, record: Record, body: Body) -> None:
    connection.execute(
        sa.insert(models.device_command).values(
            id=UUID(body["command_id"]),
            run_id=record.run_id,
            step_run_id=UUID(body["step_run_id"]),
            device=body["device"],
            tag=body["tag"],
            unit=body["unit"],
            before_value=_text(body["before"]),
            requested_value=_text(body["requested"]),
            state="unknown",
            restored=False,
            reason="",
            requested_at=_at(record),
        )
    )


def _command_concluded(connection: Connection, record: Record, body: Body) -> None:
    table = models.device_command
    connection.execute(
        sa.update(table)
        .where(table.c.id == UUID(body["command_id"]))
        .values(
            state=body["state"],
            after_value=_text(body["after"]),
            restored=body["restored"],
            reason=body["reason"],
            concluded_at=_at(record),
        )
    )


_SHOW: dict[str, Callable[[Connection, Record, Body], None]] = {
    "run.started": _run_started,
    "run.ended": _run_ended,
    "step.started": _step_started,
    "step.ended": _step_ended,
    "command.intended": _command_intended,
    "command.concluded": _command_concluded,
}
