"""Puts runs on record that do not do so themselves: flows that never heard of SmartOps.

All is read from Prefect's API, which is where a run's tasks and log lines are whole. The events'
ids are made from Prefect's own, and what the store has is not told again, so that a restart of the
reconciler doubles nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from prefect.client.schemas.objects import FlowRun, StateType, TaskRun

from services.prefect_api import PrefectApi
from smartops.audit.events import Event, EventType
from smartops.audit.journal import get_journal
from smartops.audit.open_runs import told_events
from smartops.audit.store import Store
from tasks.run_context import requested_by

TELLER = "prefect"
_OVERLAP = timedelta(seconds=30)
"""How late a batch of log lines may reach Prefect."""
SETTLED = timedelta(seconds=15)
"""How long after a run's end its last tasks and lines may come."""
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

    events: set[UUID]
    open_tasks: dict[UUID, TaskRun] = field(default_factory=dict)
    last_line: datetime | None = None


class ForeignRuns:
    """Tells the journal of runs that Prefect knows and nobody else puts on record."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: dict[UUID, _Told] = {}

    def follows(self, run_id: UUID) -> bool:
        """Return whether a run is being followed."""
        return run_id in self._told

    async def tell(self, api: PrefectApi, run: FlowRun) -> None:
        """Put on record what is new of a run."""
        told = self._told.get(run.id)
        if told is None:
            known = await asyncio.to_thread(told_events, self._store, run.id)
            told = self._told[run.id] = _Told(known)
        tasks = await api.task_runs(run.id)
        lines = await self._lines(api, run, told)
        state = end_state(run)
        events = [
            await self._start(api, run),
            *_tasks(tasks, told),
            *lines,
            *([_end(run, state)] if state else []),
        ]
        self._write(events, told)
        if state is not None and is_settled(run):
            self._write(_left_open(run, told), told)
            del self._told[run.id]

    async def hand_over(self, api: PrefectApi, run: FlowRun) -> None:
        """End what was told of a run that has begun to put itself on record."""
        told = self._told[run.id]
        tasks = [task for task in await api.task_runs(run.id) if task.id in told.open_tasks]
        self._write(_tasks(tasks, told), told)
        if not told.open_tasks or (end_state(run) is not None and is_settled(run)):
            self._write(_left_open(run, told), told)
            del self._told[run.id]

    @staticmethod
    def _write(events: list[Event], told: _Told) -> None:
        new = [event for event in events if event.id not in told.events]
        if new:
            get_journal().append(*new)
            told.events.update(event.id for event in new)

    @staticmethod
    async def _start(api: PrefectApi, run: FlowRun) -> Event:
        name = await api.flow_name(run)
        job = (run.parameters or {}).get("job")
        of_job = isinstance(job, dict) and isinstance(job.get("name"), str)
        at = _moment(run.start_time or run.expected_start_time or run.created)
        body = {
            "job": job["name"] if of_job and job else name,
            "kind": "job" if of_job else "flow",
            "flow": name,
            "deployment": str(run.deployment_id) if run.deployment_id else None,
            "params": dict(run.parameters or {}),
            "requested_by": requested_by(run),
            "told_by": TELLER,
            "at": at if run.run_count <= 1 else _moment(run.state.timestamp if run.state else None),
            "host": "",
        }
        return _event(
            "run.started", run.id, body, run.id, f"started {run.run_count > 1} {_turn(run)}"
        )

    @staticmethod
    async def _lines(api: PrefectApi, run: FlowRun, told: _Told) -> list[Event]:
        since = told.last_line - _OVERLAP if told.last_line else None
        events: list[Event] = []
        for line in await api.log_lines(run.id, since):
            told.last_line = max(told.last_line or line.timestamp, line.timestamp)
            body = {
                "level": line.level,
                "logger": line.name,
                "message": line.message,
                "step_run_id": str(line.task_run_id) if line.task_run_id else None,
                "at": _moment(line.timestamp),
            }
            events.append(_event("log", run.id, body, line.id, "line"))
        return events


def _turn(run: FlowRun) -> int:
    """Return which time it is that the run runs; Prefect counts at its beginning."""
    return max(run.run_count, 1)


def _event(event: EventType, run_id: UUID, body: dict[str, Any], source: UUID, what: str) -> Event:
    """Return an event whose id is the same each time that the same is told."""
    return Event(event, run_id, body, id=uuid5(source, f"smartops {event} {what}"))


def is_settled(run: FlowRun) -> bool:
    """Return whether nothing more is to come of a run that has ended."""
    ended = run.end_time or (run.state.timestamp if run.state else None)
    return ended is None or datetime.now(UTC) - ended > SETTLED


def _moment(moment: Any) -> str:
    return (moment or datetime.now(UTC)).astimezone(UTC).isoformat()


def _tasks(tasks: list[TaskRun], told: _Told) -> list[Event]:
    events: list[Event] = []
    for task in tasks:
        if task.start_time is None:
            continue
        events.append(_task_started(task))
        if task.state_type in _STATES:
            events.append(_task_ended(task, _STATES[task.state_type]))
            told.open_tasks.pop(task.id, None)
        else:
            told.open_tasks[task.id] = task
    return events


def _left_open(run: FlowRun, told: _Told) -> list[Event]:
    """Return the ends of tasks that Prefect left running when their run ended."""
    left = list(told.open_tasks.values())
    told.open_tasks.clear()
    return [_task_ended(task, "unknown_outcome", run.end_time) for task in left]


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
    return _event("step.started", _run_of(task), body, task.id, "task")


def _task_ended(task: TaskRun, state: str, at: datetime | None = None) -> Event:
    message = task.state.message if task.state else None
    if state == "unknown_outcome":
        message = "the run ended while the task was under way"
    body = {
        "step_run_id": str(task.id),
        "state": state,
        "error": message if state != "completed" else None,
        "told_by": TELLER,
        "at": _moment(at or task.end_time),
    }
    return _event("step.ended", _run_of(task), body, task.id, "task")


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
    return _event("run.ended", run.id, body, run.id, f"ended {_turn(run)}")
