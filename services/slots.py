"""Puts on record what became of each time at which a schedule should have fired."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from prefect.client.schemas.objects import FlowRun, StateType
from pydantic import TypeAdapter

from services.prefect_api import PrefectApi
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import get_journal
from smartops.audit.open_runs import last_slots, open_slots
from smartops.audit.store import Store

if TYPE_CHECKING:
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

_NAMES = UUID("6ba8ff90-6a0b-4b0a-9d0e-9a8d3d1e5f21")
GRACE = timedelta(minutes=2)
"""How late a run may start before its slot counts as missed; it is put right if it comes."""
_LONGEST_LOOK = timedelta(days=31)
_CORRECTION = timedelta(days=1)
_MOST = 1000
_NO_RUN = "Prefect made no run for it: its server was not running, or the schedule was changed"


@dataclass(frozen=True)
class Slot:
    """A time at which a schedule should have fired, and what became of it."""

    deployment: UUID
    job: str
    due_at: datetime
    schedule: str
    outcome: str
    """``run``, ``skipped`` or ``missed``."""
    reason: str
    run_id: UUID | None

    @property
    def id(self) -> UUID:
        """The same for each telling of the same slot."""
        return slot_id(self.deployment, self.due_at)

    def event(self) -> Event:
        """Return the event that tells of it."""
        body = {
            "slot_id": str(self.id),
            "deployment": str(self.deployment),
            "job": self.job,
            "due_at": self.due_at.isoformat(),
            "schedule": self.schedule,
            "outcome": self.outcome,
            "reason": self.reason,
            "slot_run_id": str(self.run_id) if self.run_id else None,
        }
        return Event("slot", self.run_id or NO_RUN, body)


def slot_id(deployment: UUID, due_at: datetime) -> UUID:
    """Return the id of a slot: one deployment fires once at one time."""
    return uuid5(_NAMES, f"{deployment} {due_at.astimezone(UTC).isoformat()}")


def outcome_of(run: FlowRun | None, due_at: datetime, now: datetime) -> tuple[str, str] | None:
    """Return what became of a slot and why; None as long as that is open."""
    if run is None:
        return ("missed", _NO_RUN) if now - due_at > GRACE else None
    if run.start_time is not None:
        late = run.start_time.timestamp() - due_at.timestamp()
        return "run", f"started {late:.0f} s late" if late > GRACE.total_seconds() else ""
    if run.state_type is StateType.CANCELLED:
        message = run.state.message if run.state else None
        return "skipped", message or "its run was cancelled before it began"
    if run.state_type is StateType.CRASHED:
        return "missed", (run.state.message if run.state else None) or "its run did not begin"
    if now - due_at > GRACE:
        return "missed", "no worker took it in time"
    return None


class Slots:
    """Looks at all schedules, and tells of the slots that have passed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._decided: set[UUID] = set()

    async def tell(self, api: PrefectApi, now: datetime) -> int:
        """Put on record what is decided since the last look; return how many slots that are."""
        last = await asyncio.to_thread(last_slots, self._store)
        missed = await asyncio.to_thread(open_slots, self._store, now - _CORRECTION)
        deployments = await api.deployments()
        windows = [
            (deployment, schedule, _begin(schedule, last.get(str(deployment.id)), now))
            for deployment in deployments
            for schedule in deployment.schedules
        ]
        if not windows:
            return 0
        since = min(begin for _, _, begin in windows) - timedelta(seconds=1)
        runs = {
            (run.deployment_id, run.expected_start_time): run
            for run in await api.due_runs(min(since, now - _CORRECTION), now)
            if run.auto_scheduled and run.expected_start_time
        }
        told: list[Event] = []
        for deployment, schedule, begin in windows:
            told += await self._of_schedule(deployment, schedule, begin, now, runs)
        told += self._put_right(deployments, runs, missed, now)
        if told:
            get_journal().append(*told)
        return len(told)

    async def _of_schedule(
        self,
        deployment: DeploymentResponse,
        schedule: DeploymentSchedule,
        begin: datetime,
        now: datetime,
        runs: dict[Any, FlowRun],
    ) -> list[Event]:
        events: list[Event] = []
        for due in await _dates(schedule, begin, now):
            if slot_id(deployment.id, due) in self._decided:
                continue
            run = runs.get((deployment.id, due))
            decided = outcome_of(run, due, now)
            if run is None and (deployment.paused or not schedule.active):
                decided = ("skipped", "the schedule was paused")
            if decided is not None:
                slot = Slot(
                    deployment.id,
                    deployment.name,
                    due,
                    _text(schedule),
                    *decided,
                    run.id if run else None,
                )
                self._decided.add(slot.id)
                events.append(slot.event())
        return events

    @staticmethod
    def _put_right(
        deployments: list[DeploymentResponse],
        runs: dict[Any, FlowRun],
        missed: set[UUID],
        now: datetime,
    ) -> list[Event]:
        """Tell of slots that were missed, and whose run began or was cancelled after all."""
        names = {deployment.id: deployment for deployment in deployments}
        events: list[Event] = []
        for (deployment_id, due), run in runs.items():
            deployment = names.get(deployment_id)
            if deployment is None or slot_id(deployment_id, due) not in missed:
                continue
            decided = outcome_of(run, due, now)
            if decided is not None and decided[0] != "missed":
                schedule = _text(deployment.schedules[0]) if deployment.schedules else ""
                slot = Slot(deployment_id, deployment.name, due, schedule, *decided, run.id)
                events.append(slot.event())
        return events


def _text(schedule: DeploymentSchedule) -> str:
    """Return a schedule as a text that changes when it changes."""
    fields = schedule.schedule.model_dump(mode="json", exclude_none=True)
    return json.dumps(fields, sort_keys=True)[:250]


def _begin(
    schedule: DeploymentSchedule, last: tuple[datetime, str] | None, now: datetime
) -> datetime:
    """Return since when to look: since the last slot on record, if the schedule is the same."""
    if last is not None and last[1] == _text(schedule):
        begin = last[0] + timedelta(microseconds=1)
    else:
        begin = schedule.created or now
    return max(begin, now - _LONGEST_LOOK)


async def _dates(schedule: DeploymentSchedule, begin: datetime, end: datetime) -> list[datetime]:
    """Return the times of a schedule in a window, as Prefect's own scheduler computes them."""
    from prefect.server.schemas.schedules import SCHEDULE_TYPES  # noqa: PLC0415 - the server's

    own: Any = TypeAdapter(SCHEDULE_TYPES).validate_python(schedule.schedule.model_dump())
    return list(await own.get_dates(n=_MOST, start=begin, end=end))
