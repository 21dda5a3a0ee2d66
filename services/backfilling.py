"""Makes the runs that schedules of the past should have made, or would have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from services import deployed_jobs
from services.gate import BACKFILL, PARALLEL
from services.prefect_api import deployment_named, prefect
from services.prefect_schedules import fires, in_words, zone_of
from services.slots import key_of, params_of, slot_id, slot_labels
from smartops.audit.open_runs import outcomes, slots_since
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs.calendars import reason_to_skip
from smartops.people import who_is_here
from tasks.run_context import REQUESTED_BY, SLOT

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

MOST = 10_000
_MOST_TRIES = 20


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

    The schedules are those that Prefect has, also where they were added in its UI. At most
    ``parallel`` of them run at the same time, whatever the job's overlap policy says.
    Asking twice starts nothing twice. Raises BadInput, PrefectUnavailable, StoreUnavailable.
    """
    if begin >= end:
        raise BadInput("the period ends before it begins")
    on_record = slots_since(store, begin)
    batch = uuid4().hex
    found: list[BackfillSlot] = []
    async with prefect() as client:
        deployment = await deployment_named(client, name)
        spec = deployed_jobs.job_in(deployment).spec
        times = {
            key_of(schedule): await fires(schedule.schedule, begin, end)
            for schedule in deployment.schedules
        }
        if sum(map(len, times.values())) > MOST:
            raise BadInput(f"these are more than {MOST} runs; take a shorter period")
        present = {
            slot_id(deployment.id, key, due): due for key, dues in times.items() for due in dues
        }
        known = outcomes(on_record, deployment.id, present)
        for schedule in deployment.schedules:
            if not schedule.active:
                continue
            zone = zone_of(schedule)
            for due_at in times[key_of(schedule)]:
                why = reason_to_skip(spec.skip_on, due_at, zone)
                slot = slot_id(deployment.id, key_of(schedule), due_at)
                action = "has run" if known.get(slot) == "run" else "skipped" if why else "run"
                run_id = None
                if action == "run" and not dry_run:
                    labels = {
                        **slot_labels(deployment, schedule, due_at),
                        BACKFILL: batch,
                        PARALLEL: parallel,
                        REQUESTED_BY: who_is_here(),
                    }
                    run_id = str(await _start(client, deployment, schedule, slot, labels))
                found.append(BackfillSlot(due_at, in_words(schedule), action, why, run_id))
    return sorted(found, key=lambda slot: slot.due_at)


async def _start(
    client: PrefectClient,
    deployment: DeploymentResponse,
    schedule: DeploymentSchedule,
    slot: UUID,
    labels: dict[str, Any],
) -> UUID:
    """Start the run of a slot, once; again only where the one before never began."""
    for number in range(_MOST_TRIES):
        run = await client.create_flow_run_from_deployment(
            deployment.id,
            parameters={**deployment.parameters, "params": params_of(deployment, schedule)},
            idempotency_key=f"slot-{slot}" + (f"-{number}" if number else ""),
            labels=labels,
        )
        if run.state is None or not run.state.is_final() or run.run_count > 0:
            return run.id
    raise BadInput(
        f"the slot of {labels[SLOT]} has had {_MOST_TRIES} runs that never began",
        hint="Look at one of them with `smartops run explain`.",
    )
