"""The outbox of messages: who takes one has it for a while, and says how it went.

A message is claimed, sent outside of any transaction, and concluded. Whoever is killed in between
loses its claim after a while, and the next one sends the same batch under the same key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from smartops.audit.alert_book import NewMessage, Outcome, alone, put_on_record, say
from smartops.audit.alert_tables import alert_message as table
from smartops.audit.store import Store

LEASE = timedelta(minutes=3)
"""How long a sender has a message; longer than any channel's time limit."""
_GIVE_UP = timedelta(days=1)
_LONGEST_PAUSE_S = 600.0
_MOST_TOGETHER = 50


@dataclass(frozen=True)
class Limit:
    """How many messages a channel takes in which time."""

    most: int
    per: timedelta


@dataclass(frozen=True)
class Batch:
    """Messages of one kind on one channel that are sent as one."""

    id: UUID
    """The key: the same for each attempt."""
    channel: str
    kind: str
    alert_ids: tuple[UUID, ...]
    attempts: int
    tried_at: datetime
    """When it was tried first."""
    instead_of: str | None


def claim(store: Store, me: str, limits: Mapping[str, Limit], now: datetime) -> list[Batch]:
    """Take what is due, one batch for each channel that nobody uses. Raises StoreUnavailable.

    What a channel does not take any more for now is put off, and that stands on record.
    """
    with store.reading() as connection:
        if not _due(connection, now):
            return []
    with store.transaction() as connection:
        alone(connection, now)
        taken = _under_way(connection, now)
        found: list[Batch] = []
        for channel, rows in groupby(_due(connection, now), key=lambda row: str(row.channel)):
            first = next(iter(rows))
            if channel in taken or _put_off(connection, channel, first, limits, now):
                continue
            found.append(_take(connection, first, me, now))
        return found


def _due(connection: Connection, now: datetime) -> Sequence[sa.Row[Any]]:
    """Return what is due or was left behind, by channel, the oldest first.

    Of one alert nothing is said on a channel before what was to be said earlier.
    """
    earlier = table.alias("earlier")
    waits = sa.exists().where(
        earlier.c.alert_id == table.c.alert_id,
        earlier.c.channel == table.c.channel,
        earlier.c.made_at < table.c.made_at,
        earlier.c.state.in_(("due", "sending")),
    )
    due = (table.c.state == "due") & (table.c.due_at <= now) & ~waits
    left = (table.c.state == "sending") & (table.c.lease_until <= now)
    query = sa.select(table).where(due | left)
    return connection.execute(query.order_by(table.c.channel, table.c.made_at, table.c.id)).all()


def _under_way(connection: Connection, now: datetime) -> set[str]:
    """Return the channels on which somebody is sending."""
    query = sa.select(table.c.channel).where(table.c.state == "sending", table.c.lease_until > now)
    return set(connection.execute(query.distinct()).scalars())


def _put_off(
    connection: Connection,
    channel: str,
    first: sa.Row[Any],
    limits: Mapping[str, Limit],
    now: datetime,
) -> bool:
    """Put off what a channel does not take now; return whether that was done."""
    limit = limits.get(channel)
    if limit is None or first.batch is not None:
        return False
    query = sa.select(sa.func.max(table.c.sent_at)).where(
        table.c.channel == channel, table.c.sent_at > now - limit.per
    )
    sent = connection.execute(query.group_by(table.c.batch)).scalars().all()
    if len(sent) < limit.most:
        return False
    until = sorted(sent)[-limit.most] + limit.per
    waiting = (table.c.channel == channel) & (table.c.state == "due") & table.c.batch.is_(None)
    late = waiting & (table.c.due_at <= now)
    ids = connection.execute(sa.select(table.c.alert_id).where(late)).scalars().all()
    # What waits is sent together then, as far as it is of one kind.
    together = {"due_at": until, "group_key": "held back"}
    connection.execute(sa.update(table).where(late).values(**together))
    reason = f"held back until {until:%Y-%m-%d %H:%M:%S %Z}: {limit.most} messages were sent"
    outcomes = [Outcome(alert, "not_sent", reason, now, channel) for alert in dict.fromkeys(ids)]
    put_on_record(connection, outcomes)
    return True


def _take(connection: Connection, first: sa.Row[Any], me: str, now: datetime) -> Batch:
    if first.batch is not None:
        which = table.c.batch == first.batch
    else:
        same = ("channel", "kind", "group_key", "instead_of")
        which = (table.c.state == "due") & table.c.batch.is_(None)
        for name in same:
            which &= table.c[name].is_not_distinct_from(getattr(first, name))
    query = sa.select(table).where(which).order_by(table.c.made_at, table.c.id)
    rows = connection.execute(query.limit(_MOST_TOGETHER)).all()
    batch, tried_at = first.batch or first.id, first.tried_at or now
    values = {"state": "sending", "batch": batch, "claimed_by": me, "lease_until": now + LEASE}
    ids = [row.id for row in rows]
    connection.execute(
        sa.update(table).where(table.c.id.in_(ids)).values(**values, tried_at=tried_at)
    )
    return Batch(
        batch,
        first.channel,
        first.kind,
        tuple(row.alert_id for row in rows),
        first.attempts,
        tried_at,
        first.instead_of,
    )


def thread_of(store: Store, alert_id: UUID, channel: str) -> str | None:
    """Return what the first message about an alert on a channel is known by there."""
    query = sa.select(table.c.remote).where(
        table.c.alert_id == alert_id, table.c.channel == channel, table.c.remote.is_not(None)
    )
    with store.reading() as connection:
        return connection.execute(query.order_by(table.c.sent_at).limit(1)).scalar()


def sent(store: Store, batch: Batch, me: str, remote: str, to: str, now: datetime) -> None:
    """Conclude that a batch was sent. Raises StoreUnavailable."""
    with store.transaction() as connection:
        mine = (table.c.batch == batch.id) & (table.c.claimed_by == me)
        values = {"state": "sent", "sent_at": now, "remote": remote[:255], "lease_until": None}
        connection.execute(
            sa.update(table).where(mine).values(**values, attempts=batch.attempts + 1)
        )
        _on_record(connection, batch, "sent", batch.kind, to, now)


def failed(
    store: Store,
    batch: Batch,
    me: str,
    reason: str,
    to: str,
    now: datetime,
    *,
    fallback: str | None,
) -> bool:
    """Conclude that an attempt failed; return whether it is tried again.

    With a ``fallback`` the batch goes there, and not this way again. Raises StoreUnavailable.
    """
    given_up = fallback is not None or now - batch.tried_at >= _GIVE_UP
    pause_s = min(_LONGEST_PAUSE_S, 2.0 * 2 ** min(batch.attempts, 20))
    values: dict[str, Any] = {"state": "failed"} if given_up else {"state": "due"}
    values |= {"due_at": now + timedelta(seconds=pause_s), "reason": reason, "lease_until": None}
    with store.transaction() as connection:
        mine = (table.c.batch == batch.id) & (table.c.claimed_by == me)
        changed = connection.execute(
            sa.update(table).where(mine).values(**values, attempts=batch.attempts + 1)
        )
        _on_record(connection, batch, "failed", reason, to, now)
        if fallback is not None and changed.rowcount:
            key = f"instead of {batch.channel} {batch.id}"
            messages = [
                NewMessage(alert, fallback, batch.kind, key, now, batch.channel)
                for alert in batch.alert_ids
            ]
            say(connection, messages, now)
    return not given_up


def _on_record(
    connection: Connection, batch: Batch, state: str, reason: str, to: str, now: datetime
) -> None:
    outcomes = [
        Outcome(alert, state, reason, now, batch.channel, to, message_id=batch.id)
        for alert in batch.alert_ids
    ]
    put_on_record(connection, outcomes)
