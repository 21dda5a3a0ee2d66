"""Asks, before a worker takes a run, whether its job's policies let it start now."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
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
from prefect.states import AwaitingConcurrencySlot, Cancelled, Cancelling
from pydantic import ValidationError

from smartops.jobs.admission import GO, Admission, Candidate, Kind, admit
from smartops.jobs.spec import JobSpec
from tasks.run_context import SLOT

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

logger = logging.getLogger(__name__)
BACKFILL = "smartops.backfill"
"""The label of a run of a backfill: which one."""
PARALLEL = "smartops.backfill-parallel"
"""The label that says how many runs of a backfill may run at the same time."""
HELD = "AwaitingConcurrencySlot"
_ACTIVE = {StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.PAUSED}
_MOST = 200


async def ask(client: PrefectClient, run: FlowRun) -> bool:
    """Return whether a run may start now; tell Prefect why where it may not.

    A run that is to be skipped is cancelled with the reason, one that is to wait stays scheduled.
    """
    admission = await judge(client, run, datetime.now(UTC))
    if admission.action == "go":
        return True
    for other in admission.cancel:
        await client.set_flow_run_state(other, Cancelling(message="a later run takes its place"))
    if admission.action == "skip":
        state: Any = Cancelled(name="Skipped", message=admission.reason)
        await client.set_flow_run_state(run.id, state, force=True)
        logger.info("run %s is skipped: %s", run.id, admission.reason)
    elif run.state is None or run.state.name != HELD or run.state.message != admission.reason:
        waiting: Any = AwaitingConcurrencySlot(message=admission.reason)
        await client.set_flow_run_state(run.id, waiting, force=True)
    return False


async def judge(client: PrefectClient, run: FlowRun, now: datetime) -> Admission:
    """Return what becomes of a run. One that is of no schedule, or of no job of ours, goes."""
    kind = kind_of(run)
    spec = spec_of(run.parameters) if kind != "manual" and run.deployment_id is not None else None
    if spec is None or run.deployment_id is None:
        return GO
    others = await _others(client, run, run.deployment_id, now)
    zone = spec.schedules[0].timezone if spec.schedules else "UTC"
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


def _candidate(run: FlowRun, zone: str) -> Candidate:
    return Candidate(
        run.id,
        due_at(run),
        kind_of(run),
        active=run.state_type in _ACTIVE,
        held=run.state is not None and run.state.name == HELD,
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
    """Return the other runs of a deployment that are under way or due, the earliest first."""
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
        for other in await client.read_flow_runs(flow_run_filter=one, limit=_MOST):
            found[other.id] = other
    found.pop(run.id, None)
    return list(found.values())
