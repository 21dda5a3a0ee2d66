"""Puts on record how jobs were changed past our own commands: in Prefect's UI, by its deploy, API.

Prefect keeps a deployment as it is now, and mostly not who made it so. What differs from the last
change on record is a change of somebody's; its revision is kept like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from services.changing_jobs import Action, Change, record
from services.deployed_jobs import DeployedJob, job_or_none
from smartops.audit.revisions import OUTSIDE, JobChange, changes_of
from smartops.audit.store import Store

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

UNKNOWN = "unknown"
"""Who changed a job where Prefect does not know people."""
SETTLED = timedelta(seconds=60)
"""How long the record of a change of our own may be on its way."""


@dataclass(frozen=True)
class Known:
    """A job as the changes on record leave it."""

    revision: str | None = None
    """None where it is deleted."""
    paused: bool = False
    drifted: bool = False
    """Whether it is on record that its schedules or parameters are not its file's."""


def known_jobs(history: Iterable[JobChange]) -> dict[str, Known]:
    """Return the jobs as their changes leave them; ``history`` has the newest first. Pure."""
    known: dict[str, Known] = {}
    for change in reversed(list(history)):
        before = known.get(change.job, Known())
        if change.action in {"paused", "resumed"}:
            paused, drifted = change.action == "paused", before.drifted
        else:
            paused = before.paused and change.action != "deleted"
            drifted = change.source == OUTSIDE and change.revision == change.before
        known[change.job] = Known(change.revision, paused, drifted)
    return known


def differences(
    job: str, now: DeployedJob | None, known: Known | None
) -> list[tuple[Change, DeployedJob | None]]:
    """Return how a job was changed, where the record does not say so. Pure."""
    before = known or Known()
    if now is None:
        gone = before.revision is not None
        return [(Change(job, "deleted", None, before.revision), None)] if gone else []
    found: list[tuple[Change, DeployedJob | None]] = []
    if now.revision != before.revision or (now.drifted and not before.drifted):
        action: Action = "updated" if before.revision else "created"
        found.append((Change(job, action, now.revision, before.revision), now))
    if now.paused != before.paused:
        action = "paused" if now.paused else "resumed"
        found.append((Change(job, action, now.revision, now.revision), None))
    return found


class OutsideChanges:
    """Compares the deployed jobs with the record, whenever they are not as at the last look."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[UUID, tuple[datetime | None, DeployedJob | None]] = {}
        """What was read of each deployment, and when that was changed."""
        self._compared: dict[str, tuple[str, bool, bool]] | None = None
        """The jobs as they were when nothing differed from the record any more."""
        self._missing: dict[str, datetime] = {}
        """Jobs of the record that Prefect does not have, and since when that is known."""

    async def tell(self, deployments: Iterable[DeploymentResponse], now: datetime) -> int:
        """Put on record what was changed and is settled; return how many changes that are."""
        there = {one.id: one for one in deployments}
        jobs = self._jobs(there)
        shape = {name: (job.revision, job.paused, job.drifted) for name, job in jobs.items()}
        if shape == self._compared:
            return 0
        known = known_jobs(await asyncio.to_thread(changes_of, self._store, limit=100_000))
        told, waits = 0, False
        for name in sorted({*jobs, *known}):
            found = differences(name, jobs.get(name), known.get(name))
            if not found or name in jobs:
                self._came_back(name)
            if not found:
                continue
            if self._is_settled(name, jobs.get(name), now):
                for change, job in found:
                    who = _person(there[job.id]) if job is not None else UNKNOWN
                    record(change, who, OUTSIDE, job.spec if job is not None else None)
                    told += 1
            else:
                waits = True
        self._compared = None if waits else shape
        return told

    def _jobs(self, there: Mapping[UUID, DeploymentResponse]) -> dict[str, DeployedJob]:
        read = self._read
        self._read = {}
        for key, one in there.items():
            updated, job = read.get(key, (None, None))
            if updated is None or updated != one.updated:
                job = job_or_none(one)
            self._read[key] = (one.updated, job)
        return {job.name: job for _, job in self._read.values() if job is not None}

    def _came_back(self, name: str) -> None:
        """Forget since when a job was missing: it is there, or on record as deleted."""
        self._missing.pop(name, None)

    def _is_settled(self, name: str, job: DeployedJob | None, now: datetime) -> bool:
        if job is None:
            return now - self._missing.setdefault(name, now) >= SETTLED
        return job.updated_at is None or now - job.updated_at >= SETTLED


def _person(deployment: DeploymentResponse) -> str:
    by = deployment.updated_by or deployment.created_by
    return (by.display_value if by else None) or UNKNOWN
