"""What the store knows of runs that have begun and not ended, for those who look after them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from smartops.audit import models
from smartops.audit.store import Store
from smartops.audit.streaming import chunks


@dataclass(frozen=True)
class OpenRun:
    """A run without an end. ``process`` and ``home`` are None where it is known from Prefect."""

    id: UUID
    job: str
    host: str
    pid: int
    process: UUID | None
    home: UUID | None
    started_at: datetime
    told_by: str


@dataclass(frozen=True)
class OpenStep:
    """An attempt of a step without an end. ``sent`` counts its device commands."""

    id: UUID
    step: str
    kind: str
    effect: str
    sent: int


@dataclass(frozen=True)
class LastWord:
    """The last event of a run that is on record."""

    type: str
    at: datetime


@dataclass(frozen=True)
class Claim:
    """A worker's claim on a run: who took it, and which process it started for it."""

    id: UUID
    run_id: UUID
    worker: str
    process: UUID
    home: UUID
    pid: int | None
    started_at: datetime | None
    exited_at: datetime | None
    exit_status: int | None
    cause: str | None
    """Why the process ended, in words, where it did not end in peace."""


@dataclass(frozen=True)
class KnownRun:
    """How a run stands on record."""

    state: str
    message: str
    ended_at: datetime | None
    told_by: str
    process: UUID | None
    home: UUID | None


def open_runs(store: Store) -> list[OpenRun]:
    """Return all runs without an end, the oldest first. Raises StoreUnavailable."""
    run = models.job_run
    columns = [run.c[name] for name in OpenRun.__dataclass_fields__]
    query = sa.select(*columns).where(run.c.state == "running").order_by(run.c.started_at)
    with store.reading() as connection:
        return [OpenRun(*row) for row in connection.execute(query)]


def open_steps(store: Store, run_id: UUID) -> list[OpenStep]:
    """Return the attempts of a run that have no end. Raises StoreUnavailable."""
    step, command = models.step_run, models.device_command
    sent = (
        sa.select(sa.func.count())
        .where(command.c.step_run_id == step.c.id, command.c.run_id == run_id)
        .scalar_subquery()
    )
    query = sa.select(step.c.id, step.c.step, step.c.kind, step.c.effect, sent).where(
        step.c.run_id == run_id, step.c.state == "running"
    )
    with store.reading() as connection:
        return [OpenStep(*row) for row in connection.execute(query.order_by(step.c.id))]


def last_word(store: Store, run_id: UUID) -> LastWord | None:
    """Return what a run itself told last, None where that is nothing. Raises StoreUnavailable."""
    event = models.event
    query = sa.select(event.c.type, event.c.at).where(
        event.c.run_id == run_id, event.c.type.not_like("process.%")
    )
    with store.reading() as connection:
        row = connection.execute(query.order_by(event.c.at.desc()).limit(1)).first()
    return LastWord(*row) if row else None


def claims_of(store: Store, run_ids: Collection[UUID]) -> dict[UUID, Claim]:
    """Return the last claim on each of some runs. Raises StoreUnavailable."""
    table = models.run_process
    columns = [table.c[name] for name in Claim.__dataclass_fields__]
    found: dict[UUID, Claim] = {}
    with store.reading() as connection:
        for chunk in chunks(run_ids):
            query = (
                sa.select(*columns).where(table.c.run_id.in_(chunk)).order_by(table.c.claimed_at)
            )
            found |= {row.run_id: Claim(*row) for row in connection.execute(query)}
    return found


def known_runs(store: Store, run_ids: Collection[UUID]) -> dict[UUID, KnownRun]:
    """Return how some runs stand on record; those that it does not know are left out."""
    run = models.job_run
    columns = [run.c[name] for name in KnownRun.__dataclass_fields__]
    found: dict[UUID, KnownRun] = {}
    with store.reading() as connection:
        for chunk in chunks(run_ids):
            query = sa.select(run.c.id, *columns).where(run.c.id.in_(chunk))
            found |= {row[0]: KnownRun(*row[1:]) for row in connection.execute(query)}
    return found


def told_events(store: Store, run_id: UUID) -> set[UUID]:
    """Return the ids of all events of a run. Raises StoreUnavailable."""
    event = models.event
    with store.reading() as connection:
        query = sa.select(event.c.id).where(event.c.run_id == run_id)
        return set(connection.execute(query).scalars())


def last_slots(store: Store) -> dict[tuple[str, str], tuple[datetime, datetime]]:
    """Return the first and the last slot on record for each deployment's id and schedule."""
    slot = models.slot
    ends = (sa.func.min(slot.c.due_at), sa.func.max(slot.c.due_at))
    query = sa.select(slot.c.deployment, slot.c.schedule, *ends)
    with store.reading() as connection:
        rows = connection.execute(query.group_by(slot.c.deployment, slot.c.schedule))
        return {(row[0], row[1]): (row[2], row[3]) for row in rows}


class KnownSlot(NamedTuple):
    """A slot on record."""

    id: UUID
    deployment: str
    due_at: datetime
    outcome: str


def slots_since(store: Store, since: datetime) -> list[KnownSlot]:
    """Return the slots since then. Raises StoreUnavailable."""
    slot = models.slot
    columns = [slot.c[name] for name in KnownSlot._fields]
    with store.reading() as connection:
        rows = connection.execute(sa.select(*columns).where(slot.c.due_at >= since))
        return [KnownSlot(*row) for row in rows]


def outcomes(
    known: Iterable[KnownSlot], deployment: UUID, present: Mapping[UUID, datetime]
) -> dict[UUID, str]:
    """Return how the slots of a deployment's schedules stand, by their ids. Pure.

    ``present`` has the slots that its schedules say, with their times. A slot of a schedule that it
    has no more, as it was called otherwise, counts for those of the same time.
    """
    of_job = [slot for slot in known if slot.deployment == str(deployment)]
    own = {slot.id: slot.outcome for slot in of_job if slot.id in present}
    former = {slot.due_at: slot.outcome for slot in of_job if slot.id not in present}
    return {
        slot: own.get(slot) or former[due]
        for slot, due in present.items()
        if slot in own or due in former
    }
