"""The book of alerts: facts to be judged, episodes, messages, decisions. All in one transaction."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from uuid6 import uuid7

from smartops import redact
from smartops.audit import alert_tables as tables
from smartops.audit.store import Store

Page = Connection
"""The book, open in a transaction."""
_ONE = 1
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Fact:
    """Something that is on record and that nobody has judged yet."""

    id: UUID
    kind: str
    run_id: UUID
    at: datetime
    body: dict[str, Any]


@dataclass(frozen=True)
class Episode:
    """An alert that is open, or was."""

    id: UUID
    fingerprint: str
    rule: str
    subject: str
    severity: str
    state: str
    """``open`` or ``ended``."""
    run_id: UUID
    last_run_id: UUID
    title: str
    details: dict[str, Any]
    """``name``, ``labels``, ``lines``, ``runbook``, ``check``."""
    routes: list[str]
    count: int
    level: int
    raised_at: datetime
    last_at: datetime
    said_at: datetime | None
    ended_at: datetime | None


def switch_on(store: Store, now: datetime) -> None:
    """Let facts be put into the outbox from now on. Raises StoreUnavailable."""
    switch = tables.alert_switch
    with store.transaction() as connection:
        known = connection.execute(sa.select(switch.c.id).with_for_update()).first()
        if known is None:
            row = {"id": _ONE, "since": now, "seen_at": now}
            connection.execute(sa.insert(switch).values(**row))


def alone(connection: Connection, now: datetime) -> datetime:
    """Wait until no other alerter judges; until the transaction's end. Return since when it is on.

    Says also that an alerter is there.
    """
    switch = tables.alert_switch
    query = sa.select(switch.c.since).with_for_update()
    since: datetime = connection.execute(query).scalar_one()
    connection.execute(sa.update(switch).values(seen_at=now))
    return since


def facts(connection: Connection, limit: int) -> list[Fact]:
    """Return what is to be judged, the oldest first."""
    table = tables.alert_fact
    query = sa.select(table).order_by(table.c.id).limit(limit)
    return [
        Fact(row.id, row.kind, row.run_id, row.at, json.loads(row.body))
        for row in connection.execute(query)
    ]


def forget(connection: Connection, judged: Collection[Fact]) -> None:
    """Take facts out of the outbox: what became of them stands elsewhere."""
    if judged:
        table = tables.alert_fact
        ids = [fact.id for fact in judged]
        connection.execute(sa.delete(table).where(table.c.id.in_(ids)))


# --- episodes -----------------------------------------------------------------------------------


def open_episodes(connection: Connection) -> list[Episode]:
    """Return all alerts that are open, the oldest first."""
    table = tables.alert_episode
    query = sa.select(table).where(table.c.state == "open").order_by(table.c.raised_at)
    return [_episode(row) for row in connection.execute(query)]


def episodes(connection: Connection, ids: Collection[UUID]) -> list[Episode]:
    """Return alerts by their ids, the oldest first."""
    table = tables.alert_episode
    query = sa.select(table).where(table.c.id.in_(ids)).order_by(table.c.raised_at)
    return [_episode(row) for row in connection.execute(query)] if ids else []


def _episode(row: sa.Row[Any]) -> Episode:
    values = dict(row._mapping)
    values |= {name: json.loads(values[name]) for name in ("details", "routes")}
    return Episode(**values)


def raise_alert(connection: Connection, episode: Episode, text: str, *, stated: bool) -> None:
    """Open an alert. ``stated``: it is on record by itself, as a connection said so."""
    values = {**vars(episode), "title": redact.text(episode.title)[:_LONGEST_NAME]}
    values["details"] = json.dumps(redact.scrub(episode.details), ensure_ascii=False)
    values["routes"] = json.dumps(episode.routes)
    values["subject"] = episode.subject[:_LONGEST_NAME]
    connection.execute(sa.insert(tables.alert_episode).values(**values))
    if not stated:
        names = ("id", "run_id", "rule", "severity", "title", "raised_at")
        row = {**{name: values[name] for name in names}, "text": redact.text(text)}
        connection.execute(sa.insert(tables.alert).values(**row))


def change_episode(connection: Connection, alert_id: UUID, **values: Any) -> None:
    """Change the state of an alert."""
    table = tables.alert_episode
    connection.execute(sa.update(table).where(table.c.id == alert_id).values(**values))


# --- decisions and attempts ---------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """An attempt to send, or the decision not to."""

    alert_id: UUID
    state: str
    """``sent``, ``failed`` or ``not_sent``."""
    reason: str
    at: datetime
    channel: str = ""
    recipient: str = ""
    rule: str | None = None
    run_id: UUID | None = None
    message_id: UUID | None = None


def put_on_record(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Keep attempts and decisions."""
    rows = [
        {
            **vars(outcome),
            "id": uuid7(),
            "reason": redact.text(outcome.reason),
            "recipient": redact.text(outcome.recipient)[:_LONGEST_NAME],
        }
        for outcome in outcomes
    ]
    if rows:
        connection.execute(sa.insert(tables.alert_delivery), rows)


# --- messages -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class NewMessage:
    """What is to be said of an alert on a channel."""

    alert_id: UUID
    channel: str
    kind: str
    """``raised``, ``repeated``, ``escalated`` or ``recovered``."""
    group_key: str
    due_at: datetime
    instead_of: str | None = None


def say(connection: Connection, messages: Iterable[NewMessage], now: datetime) -> None:
    """Put messages into the outbox of messages."""
    rows = [
        {
            **vars(message),
            "id": uuid7(),
            "state": "due",
            "made_at": now,
            "attempts": 0,
            "reason": "",
        }
        for message in messages
    ]
    if rows:
        connection.execute(sa.insert(tables.alert_message), rows)


def told_channels(connection: Connection, alert_ids: Collection[UUID]) -> dict[UUID, list[str]]:
    """Return the channels that alerts were told on, or are about to be."""
    table = tables.alert_message
    query = sa.select(table.c.alert_id, table.c.channel).where(
        table.c.alert_id.in_(alert_ids), table.c.state != "failed"
    )
    found: dict[UUID, list[str]] = {}
    for row in connection.execute(query.order_by(table.c.id)) if alert_ids else ():
        channels = found.setdefault(row.alert_id, [])
        if row.channel not in channels:
            channels.append(row.channel)
    return found


# --- what people said ---------------------------------------------------------------------------


@dataclass(frozen=True)
class MuteOnRecord:
    """What somebody does not want to hear of for a while."""

    target: str
    until: datetime
    person: str
    comment: str
    at: datetime


def mutes(connection: Connection, now: datetime) -> list[MuteOnRecord]:
    """Return the mutes that hold now; a later word about the same target counts."""
    table = tables.alert_answer
    since = now - timedelta(days=367)  # as long as a mute can be
    which = table.c.action.in_(("mute", "unmute")) & (table.c.at > since)
    query = sa.select(table).where(which).order_by(table.c.at, table.c.id)
    last: dict[str, MuteOnRecord] = {}
    for row in connection.execute(query):
        last.pop(row.target, None)
        if row.action == "mute" and row.until > now:
            last[row.target] = MuteOnRecord(row.target, row.until, row.person, row.comment, row.at)
    return list(last.values())


def acknowledged(connection: Connection, alert_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return who acknowledged which of some alerts."""
    table = tables.alert_answer
    which = (table.c.action == "ack") & table.c.alert_id.in_(alert_ids)
    query = sa.select(table.c.alert_id, table.c.person).where(which).order_by(table.c.at)
    return {row.alert_id: row.person for row in connection.execute(query)} if alert_ids else {}
