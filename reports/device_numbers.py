"""What is on record of devices: when they were left alone, commands, readings, requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from reports.own_query import first_id
from reports.period import Period
from smartops.audit import models

_LONGEST_STREAM = timedelta(days=2)
"""How much older than its last event a journal may be."""
_AROUND = timedelta(hours=1)


@dataclass(frozen=True)
class Down:
    """A time in which something was left alone because it did not answer."""

    device: str
    part: str
    start: datetime
    end: datetime
    """Cut to the period."""
    is_over: bool
    reason: str

    @property
    def seconds(self) -> float:
        """How long it was."""
        return (self.end - self.start).total_seconds()


def downs(connection: sa.Connection, period: Period, device: str | None) -> list[Down]:
    """Return when devices were left alone, in the order of time, cut to the period."""
    change = models.device_change
    query = sa.select(change).where(change.c.at < period.end).order_by(change.c.at, change.c.id)
    if device is not None:
        query = query.where(change.c.device == device)
    open_: dict[tuple[str, str, str], Any] = {}
    found: list[Down] = []
    for row in connection.execute(query):
        key = (row.device, row.resource, row.part)
        if row.state == "quarantined":
            open_.setdefault(key, row)
        elif key in open_:
            found += _cut(open_.pop(key), row.at, period, is_over=True)
    for row in open_.values():
        found += _cut(row, period.end, period, is_over=False)
    return sorted(found, key=lambda down: (down.start, down.device, down.part))


def _cut(row: Any, end: datetime, period: Period, *, is_over: bool) -> Iterator[Down]:
    start = max(min(row.since, row.at), period.start)
    if start < end:
        yield Down(row.device, row.part, start, end, is_over, row.reason)


def covered_s(spans: Iterable[Down]) -> float:
    """Return how long at least one of some spans lasted, which may overlap."""
    total, until = 0.0, None
    for span in sorted(spans, key=lambda span: span.start):
        start = span.start if until is None else max(span.start, until)
        if span.end > start:
            total += (span.end - start).total_seconds()
        until = span.end if until is None else max(until, span.end)
    return total


@dataclass(frozen=True)
class CommandLine:
    """A change of a tag, as it was asked for and as it ended."""

    at: datetime
    device: str
    tag: str
    before: str | None
    requested: str
    after: str | None
    unit: str
    state: str
    restored: bool
    asked_by: str | None
    """Who asked for the run: a person, a schedule."""
    approver: str | None
    job: str
    step: str
    reason: str
    run_id: UUID


def commands(connection: sa.Connection, period: Period, device: str | None) -> list[CommandLine]:
    """Return every device command of the period, in the order of time."""
    command, run, step = models.device_command, models.job_run, models.step_run
    query = (
        sa.select(command, run.c.requested_by, run.c.job, step.c.step)
        .outerjoin(run, run.c.id == command.c.run_id)
        .outerjoin(step, step.c.id == command.c.step_run_id)
        .where(
            command.c.id >= first_id(period.start - _AROUND),  # the key, as there is no other index
            command.c.id < first_id(period.end + _AROUND),
            command.c.requested_at >= period.start,
            command.c.requested_at < period.end,
        )
        .order_by(command.c.requested_at, command.c.id)
    )
    if device is not None:
        query = query.where(command.c.device == device)
    return [
        CommandLine(
            row.requested_at,
            row.device,
            row.tag,
            row.before_value,
            row.requested_value,
            row.after_value,
            row.unit,
            row.state,
            row.restored,
            row.requested_by,
            row.approver,
            row.job or "",
            row.step or "",
            row.reason,
            row.run_id,
        )
        for row in connection.execute(query)
    ]


@dataclass
class TagReadings:
    """The readings of a tag that were kept, by their quality."""

    device: str
    tag: str
    readings: int = 0
    good: int = 0
    uncertain: int = 0
    bad: int = 0
    reason: str = ""
    """Why the last one that was not good was not."""

    @property
    def good_share(self) -> float:
        """The share of good ones."""
        return self.good / self.readings


def readings(connection: sa.Connection, period: Period, device: str | None) -> list[TagReadings]:
    """Return the kept readings of the period by device and tag."""
    reading = models.reading
    where = [
        reading.c.stream >= first_id(period.start - _LONGEST_STREAM),
        reading.c.stream < first_id(period.end),
        reading.c.received_at >= period.start,
        reading.c.received_at < period.end,
    ]
    if device is not None:
        where.append(reading.c.device == device)
    names = (reading.c.device, reading.c.tag)
    counted = sa.select(*names, reading.c.quality, sa.func.count().label("number"))
    found: dict[tuple[str, str], TagReadings] = {}
    for row in connection.execute(counted.where(*where).group_by(*names, reading.c.quality)):
        known = found.setdefault((row.device, row.tag), TagReadings(row.device, row.tag))
        known.readings += row.number
        setattr(known, row.quality, row.number)
    why = sa.select(*names, reading.c.reason).where(*where, reading.c.quality != "good")
    for row in connection.execute(why.order_by(reading.c.received_at, reading.c.item)):
        found[row.device, row.tag].reason = row.reason
    return [found[key] for key in sorted(found)]


@dataclass
class Requests:
    """What was asked of a device, and how long its answers took."""

    device: str
    steps: int = 0
    requests: int = 0
    answered: int = 0
    unanswered: int = 0
    total_s: float = 0.0
    longest_s: float = 0.0

    @property
    def mean_s(self) -> float | None:
        """How long an answer took on average; None where there was none."""
        return self.total_s / self.answered if self.answered else None


def requests(connection: sa.Connection, period: Period, device: str | None) -> list[Requests]:
    """Return what the steps that ended in the period asked of each device."""
    asked = models.device_exchange
    sums = [sa.func.sum(asked.c[name]).label(name) for name in ("requests", "answered")]
    query = (
        sa.select(
            asked.c.device,
            sa.func.count().label("steps"),
            *sums,
            sa.func.sum(asked.c.unanswered).label("unanswered"),
            sa.func.sum(asked.c.total_s).label("total_s"),
            sa.func.max(asked.c.longest_s).label("longest_s"),
        )
        .where(asked.c.at >= period.start, asked.c.at < period.end)
        .group_by(asked.c.device)
        .order_by(asked.c.device)
    )
    if device is not None:
        query = query.where(asked.c.device == device)
    return [
        Requests(
            row.device,
            row.steps,
            int(row.requests),
            int(row.answered),
            int(row.unanswered),
            row.total_s,
            row.longest_s,
        )
        for row in connection.execute(query)
    ]
