"""The deployed jobs at a glance: when each starts next, and how its last run ended."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from reports.runs import Wanted, list_runs
from services import deployed_jobs
from services.deployed_jobs import DeployedJob
from services.prefect_api import prefect
from services.prefect_schedules import fires, in_words
from smartops.audit.store import Store
from smartops.errors import BadInput

_LOOK_AHEAD = timedelta(days=400)


@dataclass(frozen=True)
class JobLine:
    """One deployed job."""

    name: str
    revision: str
    description: str
    paused: bool
    schedules: tuple[str, ...]
    next_due: datetime | None
    last_state: str | None
    last_run: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        due = self.next_due.isoformat() if self.next_due else None
        return {**asdict(self), "schedules": list(self.schedules), "next_due": due}


async def overview(store: Store) -> list[JobLine]:
    """Return all deployed jobs. Raises PrefectUnavailable, StoreUnavailable."""
    async with prefect() as client:
        jobs = await deployed_jobs.deployed_jobs(client)
    return [await _line(store, job) for job in jobs.values()]


async def deployed(name: str) -> DeployedJob:
    """Return a deployed job. Raises BadInput, PrefectUnavailable."""
    async with prefect() as client:
        return await deployed_jobs.deployed_job(client, name)


async def deployed_or_none(name: str) -> DeployedJob | None:
    """Return a deployed job, None where there is none of that name. Raises PrefectUnavailable."""
    async with prefect() as client:
        return await deployed_jobs.find_job(client, name)


async def _line(store: Store, job: DeployedJob) -> JobLine:
    runs = await asyncio.to_thread(list_runs, store, Wanted(job=job.spec.name), limit=1)
    return JobLine(
        name=job.name,
        revision=job.revision,
        description=job.spec.description,
        paused=job.paused,
        schedules=tuple(in_words(schedule) for schedule in job.schedules),
        next_due=None if job.paused else await _next_due(job),
        last_state=runs[0].state if runs else None,
        last_run=str(runs[0].run_id) if runs else None,
    )


async def _next_due(job: DeployedJob) -> datetime | None:
    now = datetime.now(UTC)
    found: list[datetime] = []
    for schedule in job.schedules:
        if not schedule.active:
            continue
        for ahead in (timedelta(days=2), _LOOK_AHEAD):
            try:
                times = await fires(schedule.schedule, now, now + ahead)
            except BadInput:
                break  # made elsewhere; one bad schedule must not hide the other jobs
            if times:
                found.append(times[0])
                break
    return min(found, default=None)
