"""Makes the runs that schedules of the past should have made, or would have."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from services import deployed_jobs
from services.gate import BACKFILL, PARALLEL, SCHEDULE
from services.job_overview import in_words
from services.prefect_api import prefect
from services.prefect_schedules import as_prefect, fires
from services.slots import slot_id
from smartops.audit.open_runs import slots_since
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs.calendars import reason_to_skip
from tasks.run_context import REQUESTED_BY, SLOT

MOST = 10_000


@dataclass(frozen=True)
class BackfillSlot:
    """A slot of the past, and what becomes of it."""

    due_at: datetime
    schedule: str
    action: str
    """``run``, ``has run`` or ``skipped``."""
    reason: str
    run_id: str | None

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**vars(self), "due_at": self.due_at.isoformat()}


async def backfill(
    store: Store, name: str, begin: datetime, end: datetime, *, parallel: int, dry_run: bool
) -> list[BackfillSlot]:
    """Start a run for each slot of a period that has none; return all slots of it.

    At most ``parallel`` of them run at the same time, whatever the job's overlap policy says.
    Asking twice starts nothing twice. Raises BadInput, PrefectUnavailable, StoreUnavailable.
    """
    if begin >= end:
        raise BadInput("the period ends before it begins")
    known = slots_since(store, begin)
    batch = uuid4().hex
    found: list[BackfillSlot] = []
    async with prefect() as client:
        job = await deployed_jobs.deployed_job(client, name)
        for schedule in job.spec.schedules:
            if not schedule.active:
                continue
            times = await fires(as_prefect(schedule), begin, end)
            if len(found) + len(times) > MOST:
                raise BadInput(f"these are more than {MOST} runs; take a shorter period")
            for due_at in times:
                why = reason_to_skip(job.spec.skip_on, due_at, schedule.timezone)
                slot = slot_id(job.id, due_at)
                action = "has run" if known.get(slot) == "run" else "skipped" if why else "run"
                run_id = None
                if action == "run" and not dry_run:
                    run = await client.create_flow_run_from_deployment(
                        job.id,
                        parameters={"job": job.spec.document(), "params": schedule.params},
                        idempotency_key=f"slot-{slot}",
                        labels={
                            SLOT: due_at.isoformat(),
                            SCHEDULE: schedule.name,
                            BACKFILL: batch,
                            PARALLEL: parallel,
                            REQUESTED_BY: getpass.getuser(),
                        },
                    )
                    run_id = str(run.id)
                found.append(BackfillSlot(due_at, in_words(schedule), action, why, run_id))
    return sorted(found, key=lambda slot: slot.due_at)
