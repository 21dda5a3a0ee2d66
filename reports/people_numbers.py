"""What is on record of who did what: changes of jobs, approvals, decisions, holds, runs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from reports.period import Period
from smartops.audit import models
from smartops.audit.events import NO_RUN


def _within(column: sa.Column[Any], period: Period) -> sa.ColumnElement[bool]:
    return (column >= period.start) & (column < period.end)


@dataclass(frozen=True)
class JobChange:
    """A change of a job: who made it, and which revision took the place of which."""

    at: datetime
    job: str
    action: str
    person: str
    source: str
    before: str | None
    revision: str | None


def job_changes(connection: sa.Connection, period: Period) -> list[JobChange]:
    """Return the changes of jobs, in the order of time."""
    change = models.job_change
    query = sa.select(change).where(_within(change.c.at, period)).order_by(change.c.at, change.c.id)
    return [
        JobChange(row.at, row.job, row.action, row.person, row.source, row.before, row.revision)
        for row in connection.execute(query)
    ]


@dataclass(frozen=True)
class Word:
    """What a person said about a run: an approval, a decision or a hold."""

    at: datetime
    what: str
    """asked, granted, denied, expired; done, not-done, retry; held, released."""
    person: str
    job: str
    step: str
    subject: str
    comment: str
    run_id: UUID


def approvals(connection: sa.Connection, period: Period) -> list[Word]:
    """Return what was asked, granted, denied and not answered in time."""
    table, run = models.approval, models.job_run
    query = (
        sa.select(table, run.c.job)
        .outerjoin(run, run.c.id == table.c.run_id)
        .where(_within(table.c.at, period))
    )
    return [
        Word(r.at, r.state, r.person, r.job or "", r.step or "", r.subject, r.comment, r.run_id)
        for r in connection.execute(query.order_by(table.c.at, table.c.id))
    ]


def decisions(connection: sa.Connection, period: Period) -> list[Word]:
    """Return what people found out about effects in doubt."""
    table, run, step = models.decision, models.job_run, models.step_run
    query = (
        sa.select(table, run.c.job, step.c.error)
        .outerjoin(run, run.c.id == table.c.run_id)
        .outerjoin(step, step.c.id == table.c.step_run_id)
        .where(_within(table.c.at, period))
    )
    return [
        Word(
            r.at, r.verdict, r.person, r.job or "", r.step or "", r.error or "", r.comment, r.run_id
        )
        for r in connection.execute(query.order_by(table.c.at, table.c.id))
    ]


def holds(connection: sa.Connection, period: Period) -> list[Word]:
    """Return which runs were put under legal hold, and released."""
    table, run = models.hold, models.job_run
    query = (
        sa.select(table, run.c.job)
        .outerjoin(run, run.c.id == table.c.run_id)
        .where(_within(table.c.at, period))
    )
    return [
        Word(
            r.at, "held" if r.placed else "released", r.person, r.job or "", "", "", r.reason,
            r.run_id,
        )
        for r in connection.execute(query.order_by(table.c.at, table.c.id))
    ]  # fmt: skip


def runs_asked_for(connection: sa.Connection, period: Period) -> dict[str, int]:
    """Return how many runs each person, and each schedule or bridge, has asked for."""
    run = models.job_run
    query = (
        sa.select(run.c.requested_by, sa.func.count())
        .where(_within(run.c.started_at, period), run.c.requested_by.is_not(None))
        .group_by(run.c.requested_by)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


@dataclass(frozen=True)
class Person:
    """How often somebody did what."""

    person: str
    changes: int
    approvals: int
    decisions: int
    holds: int
    runs: int


def people(
    changes: Iterable[JobChange],
    approved: Iterable[Word],
    decided: Iterable[Word],
    held: Iterable[Word],
    runs: dict[str, int],
) -> list[Person]:
    """Return everybody who did something, by name. ``runs`` counts those of schedules as well."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    parts: dict[str, Iterable[JobChange | Word]] = {
        "changes": changes,
        "approvals": approved,
        "decisions": decided,
        "holds": held,
    }
    for name, items in parts.items():
        for item in items:
            if item.person:  # an approval that is asked for, or expired, is nobody's word
                counts[item.person][name] += 1
    for person, number in runs.items():
        counts[person]["runs"] += number
    return [
        Person(name, *(counts[name][part] for part in ("changes", "approvals", "decisions",
                                                       "holds", "runs")))
        for name in sorted(counts)
    ]  # fmt: skip


@dataclass(frozen=True)
class Happening:
    """Something that was done with the record itself."""

    at: datetime
    what: str
    text: str


def prunings(connection: sa.Connection, period: Period) -> list[Happening]:
    """Return when the record was pruned, in the order of time."""
    return [
        Happening(
            at,
            "pruned",
            f"{body['events']} events of {body['runs']} runs from before {body['before']}",
        )
        for at, body in _own_events(connection, period, "records.pruned")
    ]


@dataclass(frozen=True)
class Verification:
    """What a verification found that was put on record; a command does so where it fails."""

    at: datetime
    state: str
    """whole, altered."""
    text: str
    """The first that was wrong."""
    events: int | None
    seals: int | None
    published: int | None
    """The last seal that was compared with what is published; 0: none was."""
    tables: bool | None
    """Whether the tables were derived from the events again."""
    by_run: str | None


def verifications(connection: sa.Connection, period: Period) -> list[Verification]:
    """Return what verifications found, in the order of time."""
    return [
        Verification(
            at,
            "whole" if body.get("ok") else "altered",
            str(body.get("first_bad") or ""),
            *(body.get(name) for name in ("events", "seals", "published", "tables", "by_run")),
        )
        for at, body in _own_events(connection, period, "audit.verified")
    ]


def _own_events(
    connection: sa.Connection, period: Period, kind: str
) -> list[tuple[datetime, dict[str, Any]]]:
    """Return the times and bodies of events about the record itself."""
    event = models.event
    query = sa.select(event.c.at, event.c.body).where(
        event.c.run_id == NO_RUN, event.c.type == kind, _within(event.c.at, period)
    )
    rows = connection.execute(query.order_by(event.c.at, event.c.id))
    return [(row.at, json.loads(row.body)) for row in rows]


@dataclass(frozen=True)
class Sealed:
    """What was sealed in a period."""

    seals: int
    events: int
    first: int | None
    last: int | None
    """The numbers of the seals."""


def sealed(connection: sa.Connection, period: Period) -> Sealed:
    """Return how many seals were made, and of how many events."""
    seal = models.seal
    last = connection.execute(sa.select(sa.func.max(seal.c.number))).scalar() or 0
    first, after = (_first_since(connection, moment, last) for moment in (period.start, period.end))
    if first == after:
        return Sealed(0, 0, None, None)
    query = sa.select(sa.func.count(), sa.func.sum(seal.c.events)).where(
        seal.c.number >= first, seal.c.number < after
    )
    count, events = connection.execute(query).one()
    return Sealed(count, int(events or 0), first, after - 1)


def _first_since(connection: sa.Connection, moment: datetime, last: int) -> int:
    """Return the number of the first seal since a moment; one more than the last for none.

    Found by halving, as seals are made in the order of their numbers, and there may be millions.
    """
    seal = models.seal
    low, high = 1, last + 1
    while low < high:
        middle = (low + high) // 2
        at = connection.execute(sa.select(seal.c.sealed_at).where(seal.c.number == middle)).scalar()
        if at is not None and at >= moment:
            high = middle
        else:
            low = middle + 1
    return low
