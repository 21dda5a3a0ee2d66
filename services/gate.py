"""Asks, before a worker takes a run, whether its job's policies let it start now."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import AwaitingConcurrencySlot, Cancelled
from pydantic import ValidationError

from services import run_control
from services.prefect_schedules import zone_of
from smartops.jobs.admission import GO, MISSED, Admission, Candidate, Kind, admit
from smartops.jobs.scheduling import SkipOn
from smartops.jobs.spec import JobSpec
from tasks.run_context import SLOT

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

logger = logging.getLogger(__name__)
BACKFILL = "smartops.backfill"
"""The label of a run of a backfill: which one."""
PARALLEL = "smartops.backfill-parallel"
"""The label that says how many runs of a backfill may run at the same time."""
SCHEDULE = "smartops.schedule"
"""The label of a run that was made later for a slot: its schedule's name, else the id of that."""
HELD = "AwaitingConcurrencySlot"
_ACTIVE = {StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED}
_PAGE = 200
LOOK_AGAIN = timedelta(seconds=5)
"""When a run that is held back is looked at again."""


async def ask(client: PrefectClient, run: FlowRun) -> bool:
    """Return whether a run may start now; tell Prefect why where it may not.

    A run that is to be skipped is cancelled with the reason, one that is to wait stays scheduled.
    """
    now = datetime.now(UTC)
    admission = await judge(client, run, now)
    if admission.action == "go":
        return True  # also before it is due: its process is then ready in time
    if due_at(run) > now:
        return False  # workers look ahead; what stands in its way may be gone when it is due
    for other in admission.cancel:
        await run_control.stop(client, other, "overlap", "a later run takes its place")
    if admission.action == "skip":
        state: Any = Cancelled(name="Skipped", message=admission.reason)
        await client.set_flow_run_state(run.id, state, force=True)
        logger.info("run %s is skipped: %s", run.id, admission.reason)
    else:
        # Scheduled anew each time, so that those who wait do not fill the worker's view.
        waiting: Any = AwaitingConcurrencySlot(
            message=admission.reason, scheduled_time=now + LOOK_AGAIN
        )
        await client.set_flow_run_state(run.id, waiting, force=True)
    return False


async def judge(client: PrefectClient, run: FlowRun, now: datetime) -> Admission:
    """Return what becomes of a run. One that is of no schedule, or of no job of ours, goes."""
    kind = kind_of(run)
    if run.run_count > 0:
        return GO  # it goes on after it has waited for a person
    spec = spec_of(run.parameters) if kind != "manual" and run.deployment_id is not None else None
    if spec is None or run.deployment_id is None:
        return GO
    others = await _others(client, run, run.deployment_id, now)
    zone = await _zone_of(client, run, spec)
    return admit(spec, _candidate(run, zone), [_candidate(o, zone) for o in others], now)


def kind_of(run: FlowRun) -> Kind:
    """Return what made a run."""
    if BACKFILL in run.labels:
        return "backfill"
    if SLOT in run.labels:
        return "catch-up"
    return "scheduled" if run.auto_scheduled else "manual"


def due_at(run: FlowRun) -> datetime:
    """Return when a run was due."""
    slot = run.labels.get(SLOT)
    if slot is not None:
        return datetime.fromisoformat(str(slot))
    return run.expected_start_time or run.created or datetime.now(UTC)


def schedule_of(run: FlowRun) -> str:
    """Return which schedule made a run: its name, else its id; "" where nobody knows."""
    named = run.labels.get(SCHEDULE)
    if named is not None:
        return str(named)
    made_by = run.created_by
    if made_by is None:
        return ""
    name = made_by.display_value or ""
    is_name = bool(name) and not name.endswith("Schedule")  # Prefect's word for those without one
    return name if is_name else str(made_by.id or name)


async def _zone_of(client: PrefectClient, run: FlowRun, spec: JobSpec) -> str:
    """Return the time zone of the schedule that made a run, where days off depend on it."""
    if spec.skip_on == SkipOn() or run.deployment_id is None:
        return "UTC"
    schedules = await client.read_deployment_schedules(run.deployment_id)
    name = schedule_of(run)
    own = [one for one in schedules if name in {one.slug, str(one.id)}]
    zones = [zone_of(one) for one in own or schedules]
    return zones[0] if zones else "UTC"


def _candidate(run: FlowRun, zone: str) -> Candidate:
    held = run.state is not None and run.state.name == HELD
    ended = run.state is not None and run.state.is_final()
    return Candidate(
        run.id,
        due_at(run),
        kind_of(run),
        active=run.state_type in _ACTIVE or (run.run_count > 0 and not ended),
        held=held and not (run.state and (run.state.message or "").startswith(MISSED)),
        schedule=schedule_of(run),
        batch=str(run.labels.get(BACKFILL, "")),
        parallel=int(run.labels.get(PARALLEL, 1)),
        timezone=zone,
    )


def spec_of(parameters: Mapping[str, Any] | None) -> JobSpec | None:
    """Return the job in a deployment's or a run's parameters, None where there is none."""
    try:
        return JobSpec.model_validate((parameters or {})["job"])
    except (KeyError, ValidationError):
        return None  # a flow of another kind; or a job that is wrong: its run says so


async def _others(
    client: PrefectClient, run: FlowRun, deployment: UUID, now: datetime
) -> list[FlowRun]:
    """Return the other runs of a deployment that are under way or due."""
    of = FlowRunFilterDeploymentId(any_=[deployment])
    types = FlowRunFilterStateType(any_=list(_ACTIVE))
    due = FlowRunFilterExpectedStartTime(before_=now)
    scheduled = FlowRunFilterStateType(any_=[StateType.SCHEDULED])
    wanted = [
        FlowRunFilter(deployment_id=of, state=FlowRunFilterState(type=types)),
        FlowRunFilter(
            deployment_id=of, state=FlowRunFilterState(type=scheduled), expected_start_time=due
        ),
    ]
    found: dict[UUID, FlowRun] = {}
    for one in wanted:
        offset = 0
        while True:
            page = await client.read_flow_runs(
                flow_run_filter=one,
                limit=_PAGE,
                offset=offset,
                sort=FlowRunSort.EXPECTED_START_TIME_ASC,
            )
            found |= {other.id: other for other in page}
            offset += len(page)
            if len(page) < _PAGE:
                break
    found.pop(run.id, None)
    return list(found.values())
