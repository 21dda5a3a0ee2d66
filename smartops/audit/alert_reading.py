"""What people ask of alerts: which are there, what was said of them, and by whom answered."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from smartops.audit import alert_book
from smartops.audit import alert_tables as tables
from smartops.audit.alert_book import Episode
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import get_journal
from smartops.audit.shipping import ship_all
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.settings import get_settings

Row = dict[str, Any]
_LONGEST_MUTE = timedelta(days=366)


def list_alerts(store: Store, *, closed: bool, limit: int) -> list[tuple[Episode, str]]:
    """Return alerts, the newest first, with who acknowledged each; only open ones unless asked.

    Raises StoreUnavailable.
    """
    table = tables.alert_episode
    query = sa.select(table.c.id).order_by(table.c.raised_at.desc(), table.c.id).limit(limit)
    if not closed:
        query = query.where(table.c.state == "open")
    with store.reading() as connection:
        ids = list(connection.execute(query).scalars())
        found = {episode.id: episode for episode in alert_book.episodes(connection, ids)}
        people = alert_book.acknowledged(connection, ids)
    return [(found[alert], people.get(alert, "")) for alert in ids]


def deliveries(store: Store, alert_id: UUID | None, limit: int) -> list[Row]:
    """Return attempts to send and decisions not to, the newest first; of one alert or of all."""
    table = tables.alert_delivery
    query = sa.select(table).order_by(table.c.at.desc(), table.c.id.desc()).limit(limit)
    if alert_id is not None:
        query = query.where(table.c.alert_id == alert_id)
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]


def waiting(store: Store) -> tuple[int, int]:
    """Return how many facts are not judged yet, and how many messages not sent."""
    unsent = tables.alert_message.c.state.in_(("due", "sending"))
    with store.reading() as connection:
        facts = connection.execute(sa.select(sa.func.count()).select_from(tables.alert_fact))
        query = sa.select(sa.func.count()).select_from(tables.alert_message).where(unsent)
        return facts.scalar_one(), connection.execute(query).scalar_one()


def alerter_seen(store: Store) -> datetime | None:
    """Return when an alerter was there last, None where none ever was."""
    with store.reading() as connection:
        return connection.execute(sa.select(tables.alert_switch.c.seen_at)).scalar()


def find_alert(store: Store, text: str) -> Episode:
    """Return an alert by the first part of its id. Raises BadInput, StoreUnavailable."""
    wanted = text.replace("-", "").lower()
    table = tables.alert_episode
    with store.reading() as connection:
        ids = connection.execute(
            sa.select(table.c.id).order_by(table.c.raised_at.desc()).limit(10_000)
        ).scalars()
        fitting = [alert for alert in ids if alert.hex.startswith(wanted)] if wanted else []
        if len(fitting) == 1:
            return alert_book.episodes(connection, fitting)[0]
    if fitting:
        raise BadInput(f"{len(fitting)} alerts begin with {text}: write more of the id")
    raise BadInput(f"there is no alert {text}", hint="See `smartops alert list --all`.")


def acknowledge(store: Store, alert: Episode, person: str, comment: str) -> None:
    """Put on record that a person looks after an alert: it is not told again, nor escalated.

    Raises BadInput for one that is over, JournalUnavailable, StoreUnavailable.
    """
    if alert.state != "open":
        raise BadInput(f"alert {alert.id} is over: all is well again")
    _answer(store, {"alert_id": str(alert.id), "action": "ack"}, person, comment, alert.run_id)


def mute(store: Store, target: str, until: datetime | None, person: str, comment: str) -> None:
    """Put on record that a rule, job or device is not to be heard of for a while; None: again.

    Raises BadInput, JournalUnavailable, StoreUnavailable.
    """
    if not target or len(target) > 255:
        raise BadInput("name a rule, a job or a device; * stands for anything")
    body: Row = {"target": target, "action": "mute" if until else "unmute"}
    if until is not None:
        if until - datetime.now(until.tzinfo) > _LONGEST_MUTE:
            raise BadInput("nothing can be muted for longer than a year")
        body["until"] = until.isoformat()
    _answer(store, body, person, comment, NO_RUN)


def _answer(store: Store, body: Row, person: str, comment: str, run_id: UUID) -> None:
    answer = {**body, "person": person, "comment": comment}
    get_journal().append(Event("alert.answer", run_id, answer))
    ship_all(store, get_settings().journal_dir)
