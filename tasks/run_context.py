"""Tells the core which Prefect run it is in, and keeps secrets out of Prefect's run logs."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any
from uuid import UUID
from weakref import WeakSet

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import Pause

from smartops import redact
from smartops.audit import recording
from smartops.audit.events import Event, RunState
from smartops.audit.recording import RunInfo

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

FLOW = "run-job"
"""The flow behind every job."""
REQUESTED_BY = "smartops.requested-by"
"""The label of a Prefect run that says which person asked for it."""
PARENT = "smartops.parent"
"""The label of a Prefect run that says whose step started it."""
SLOT = "smartops.slot"
"""The label of a run that was made later for a slot: the time at which it was due."""
SLOT_ID = "smartops.slot-id"
"""The label of such a run: the id of its slot."""
SLOT_SCHEDULE = "smartops.slot-schedule"
"""The label of such a run: what the schedule says."""
SLOT_JOB = "smartops.slot-job"
"""The label of such a run: the name of its deployment."""
CANCELLED_BY = "smartops.cancelled-by"
"""The label that says who cancels a run."""
LOCKS = "smartops.locks"
"""The label that says what the run that waits for this one holds."""
DEPTH = "smartops.depth"
"""The label that says how many runs stand above this one."""
_END_STATES: dict[str, RunState] = {
    "COMPLETED": "completed",
    "CANCELLED": "cancelled",
    "CRASHED": "crashed",
}


class _Redacting(logging.Filter):
    """Masks secrets in a record: its message, and the traceback that goes with it."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact.text(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = redact.text(logging.Formatter().formatException(record.exc_info))
        return True


def deployed_params(deployment: DeploymentResponse) -> dict[str, Any]:
    """Return the values of a job's parameters that its deployment gives."""
    return dict((deployment.parameters or {}).get("params") or {})


def install_log_filter() -> None:
    """Add the filter to the loggers of runs, once."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logger = logging.getLogger(name)
        if not any(isinstance(known, _Redacting) for known in logger.filters):
            logger.addFilter(_Redacting())


def requested_by(flow_run: FlowRun) -> str | None:
    """Return who asked for a run: the person that our own commands name, or the schedule."""
    person = flow_run.labels.get(REQUESTED_BY)
    if person is None and flow_run.auto_scheduled:
        return "schedule"
    return None if person is None else str(person)


def slot_made_up() -> Event | None:
    """Return what is to go on record where this run is made later for a slot that had none."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is None or SLOT_ID not in run.labels:
        return None
    body = {
        "slot_id": str(run.labels[SLOT_ID]),
        "deployment": str(run.deployment_id),
        "job": str(run.labels.get(SLOT_JOB, "")),
        "due_at": str(run.labels[SLOT]),
        "schedule": str(run.labels[SLOT_SCHEDULE]),
        "outcome": "run",
        "reason": "made up for later",
        "slot_run_id": str(run.id),
    }
    return Event("slot", run.id, body)


def parent_of_run() -> UUID | None:
    """Return the run whose step started the one that this code is in."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return None
    parent = context.flow_run.labels.get(PARENT)
    return UUID(str(parent)) if parent else None


def inherited_locks() -> dict[str, str]:
    """Return what the run that waits for this one holds, and by which hold."""
    context = FlowRunContext.get()
    labels = context.flow_run.labels if context and context.flow_run else {}
    holds = json.loads(str(labels.get(LOCKS, "{}")))
    return {str(name): str(hold) for name, hold in holds.items()}


def cancelled_by_person() -> str | None:
    """Return who cancels the run that this code is in; it was waiting, and has to end in order."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    has_waited = run is not None and bool(run.empirical_policy.pause_keys)
    person = run.labels.get(CANCELLED_BY) if run is not None and has_waited else None
    return None if person is None else str(person)


def current_run() -> RunInfo | None:
    """Return the Prefect flow run that this code is in, or its task run where there is no flow."""
    flow_context = FlowRunContext.get()
    if flow_context is not None and flow_context.flow_run is not None:
        flow_run = flow_context.flow_run
        name = flow_context.flow.name if flow_context.flow else flow_run.name
        return RunInfo(
            id=flow_run.id,
            job=name,
            flow=name,
            deployment=str(flow_run.deployment_id) if flow_run.deployment_id else None,
            params=dict(flow_run.parameters or {}),
            requested_by=requested_by(flow_run),
            function=flow_context.flow.fn if flow_context.flow else None,
        )
    task_context = TaskRunContext.get()
    if task_context is not None:
        name = task_context.task.name
        return RunInfo(
            id=task_context.task_run.id,
            job=name,
            flow=name,
            kind="task",
            function=task_context.task.fn,
        )
    return None


recording.suspensions.add(Pause)
_followed: dict[UUID, RunInfo] = {}
_hooked: WeakSet[Any] = WeakSet()


def end_with_flow(info: RunInfo) -> None:
    """Put the end of a flow that is not ``@audited`` on record, as its steps are."""
    context = FlowRunContext.get()
    if context is None or context.flow is None:
        return
    _followed[info.id] = info
    flow = context.flow
    if flow in _hooked:
        return
    _hooked.add(flow)
    for hooks in (
        flow.on_completion_hooks,
        flow.on_failure_hooks,
        flow.on_cancellation_hooks,
        flow.on_crashed_hooks,
    ):
        hooks.append(_on_end)


def _on_end(flow: Any, flow_run: Any, state: Any) -> None:  # noqa: ARG001 - Prefect's names
    info = _followed.pop(flow_run.id, None)
    if info is not None:
        recording.end_run(info, _END_STATES.get(state.type.value, "failed"), state.message or "")
