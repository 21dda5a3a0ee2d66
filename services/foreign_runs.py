"""Puts runs on record that do not do so themselves: flows that never heard of SmartOps.

All is read from Prefect's API, which is where a run's tasks and log lines are whole; ids are
Prefect's own, so that what is told twice is on record once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType, TaskRun

from services.prefect_api import PrefectApi
from smartops.audit.events import Event
from smartops.audit.journal import get_journal
from tasks.run_context import requested_by

TELLER = "prefect"
_OVERLAP = timedelta(seconds=30)
"""How late a batch of log lines may reach Prefect."""
_SETTLED = timedelta(seconds=10)
_STATES: dict[StateType, str] = {
    StateType.COMPLETED: "completed",
    StateType.FAILED: "failed",
    StateType.CANCELLED: "cancelled",
    StateType.CRASHED: "crashed",
}


def end_state(run: FlowRun) -> str | None:
    """Return the state of a run that has ended, in the words of the record."""
    return _STATES.get(run.state_type) if run.state_type else None


@dataclass
class _Told:
    """What has been told of a run so far."""

    tasks: dict[UUID, str] = field(default_factory=dict)
    lines: set[UUID] = field(default_factory=set)
    last_line: datetime | None = None
    ended: bool = False


class ForeignRuns:
    """Tells the journal of runs that Prefect knows and nobody else puts on record."""

    def __init__(self) -> None:
        self._told: dict[UUID, _Told] = {}

    def follows(self, run_id: UUID) -> bool:
        """Return whether a run is being followed."""
        return run_id in self._told

    async def tell(self, api: PrefectApi, run: FlowRun, *, known: bool) -> None:
        """Put on record what is new of a run. ``known`` says that its start is on record."""
        told = self._told.get(run.id)
        events: list[Event] = []
        if told is None:
            told = self._told[run.id] = _Told()
            if not known:
                events.append(await self._start(api, run))
        events += await self._tasks(api, run, told)
        events += await self._lines(api, run, told)
        state = end_state(run)
        if state is not None and not told.ended:
            told.ended = True
            events.append(_end(run, state))
        if events:
            get_journal().append(*events)
        if told.ended and _is_settled(run):
            del self._told[run.id]

    @staticmethod
    async def _start(api: PrefectApi, run: FlowRun) -> Event:
        name = await api.flow_name(run)
        job = (run.parameters or {}).get("job")
        of_job = isinstance(job, dict) and isinstance(job.get("name"), str)
        body = {
            "job": job["name"] if of_job and job else name,
            "kind": "job" if of_job else "flow",
            "flow": name,
            "deployment": str(run.deployment_id) if run.deployment_id else None,
            "params": dict(run.parameters or {}),
            "requested_by": requested_by(run),
            "told_by": TELLER,
            "at": _moment(run.start_time or run.expected_start_time or run.created),
            "host": "",
        }
        return Event("run.started", run.id, body)

    @staticmethod
    async def _tasks(api: PrefectApi, run: FlowRun, told: _Told) -> list[Event]:
        events: list[Event] = []
        for task in await api.task_runs(run.id):
            state = task.state_type.value if task.state_type else ""
            if task.start_time is None or told.tasks.get(task.id) == state:
                continue
            if task.id not in told.tasks:
                events.append(_task_started(task))
            if task.state_type in _STATES:
                events.append(_task_ended(task))
            told.tasks[task.id] = state
        return events

    @staticmethod
    async def _lines(api: PrefectApi, run: FlowRun, told: _Told) -> list[Event]:
        since = told.last_line - _OVERLAP if told.last_line else None
        events: list[Event] = []
        for line in await api.log_lines(run.id, since):
            if line.id in told.lines:
                continue
            told.lines.add(line.id)
            told.last_line = max(told.last_line or line.timestamp, line.timestamp)
            body = {
                "level": line.level,
                "logger": line.name,
                "message": line.message,
                "step_run_id": str(line.task_run_id) if line.task_run_id else None,
                "at": _moment(line.timestamp),
            }
            events.append(Event("log", run.id, body))
        return events


def _is_settled(run: FlowRun) -> bool:
    ended = run.end_time or (run.state.timestamp if run.state else None)
    return ended is None or datetime.now(UTC) - ended > _SETTLED


def _moment(moment: Any) -> str:
    return (moment or datetime.now(UTC)).astimezone(UTC).isoformat()


def _task_started(task: TaskRun) -> Event:
    body = {
        "step_run_id": str(task.id),
        "step": task.name,
        "kind": "task",
        "effect": "unsafe",
        "attempt": max(task.run_count, 1),
        "inputs": {},
        "told_by": TELLER,
        "at": _moment(task.start_time),
    }
    return Event("step.started", _run_of(task), body)


def _task_ended(task: TaskRun) -> Event:
    state = _STATES[task.state_type] if task.state_type else "failed"
    message = task.state.message if task.state else None
    body = {
        "step_run_id": str(task.id),
        "state": state,
        "error": message if state != "completed" else None,
        "told_by": TELLER,
        "at": _moment(task.end_time),
    }
    return Event("step.ended", _run_of(task), body)


def _run_of(task: TaskRun) -> UUID:
    return task.flow_run_id or UUID(int=0)


def _end(run: FlowRun, state: str) -> Event:
    message = (run.state.message if run.state else None) or ""
    body = {
        "state": state,
        "message": "" if state == "completed" else message,
        "told_by": TELLER,
        "at": _moment(run.end_time or (run.state.timestamp if run.state else None)),
    }
    return Event("run.ended", run.id, body)
