"""Puts on record what became of each time at which a schedule should have fired."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from prefect.client.schemas.objects import FlowRun, StateType

from services import gate
from services.prefect_api import PrefectApi
from services.prefect_schedules import fires
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import get_journal
from smartops.audit.open_runs import last_slots, slots_since
from smartops.audit.store import Store
from smartops.jobs.admission import to_catch_up
from tasks.run_context import REQUESTED_BY, SLOT

if TYPE_CHECKING:
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

logger = logging.getLogger(__name__)
_NAMES = UUID("6ba8ff90-6a0b-4b0a-9d0e-9a8d3d1e5f21")
GRACE = timedelta(minutes=2)
"""How late a run may start before its slot counts as missed; it is put right if it comes."""
_LONGEST_LOOK = timedelta(days=31)
_CORRECTION = timedelta(hours=12)
"""How long a missed slot is watched: its run may come late."""
_NEARBY = timedelta(hours=2)
"""How far Prefect's own time for a run may be from ours: it counts intervals from elsewhere."""
NO_RUN_MADE = "Prefect made no run for it: its server was not running, or the schedule was changed"


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
        return ("missed", NO_RUN_MADE) if now - due_at > GRACE else None
    message = (run.state.message if run.state else None) or ""
    if _has_begun(run):
        assert run.start_time is not None  # noqa: S101 - for the type checker
        late = run.start_time.timestamp() - due_at.timestamp()
        return "run", f"started {late:.0f} s late" if late > GRACE.total_seconds() else ""
    if run.state_type is StateType.CANCELLED:
        return "skipped", message or "its run was cancelled before it began"
    if run.state is not None and run.state.is_final():
        return "missed", message or "its run did not begin"
    if now - due_at > GRACE:
        return "missed", "no worker took it in time"
    return None


def _has_begun(run: FlowRun) -> bool:
    """Return whether a run began; Prefect gives one that ends before that a start time as well."""
    ended = run.state is not None and run.state.is_final()
    return run.start_time is not None and (not ended or run.run_count > 0)


class Slots:
    """Looks at all schedules, and tells of the slots that have passed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: dict[UUID, str] = {}
        self._faulty: set[UUID] = set()

    async def tell(self, api: PrefectApi, now: datetime) -> int:
        """Put on record what is decided since the last look; return how many slots that are."""
        last = await asyncio.to_thread(last_slots, self._store)
        dates = {
            deployment.id: (deployment, await self._dates(deployment, last, now))
            for deployment in await api.deployments()
            if deployment.schedules
        }
        times = [due for _, due_times in dates.values() for due in due_times]
        if not times:
            return 0
        known = await asyncio.to_thread(slots_since, self._store, min(times))
        known |= self._told
        events: list[Event] = []
        told: dict[UUID, str] = {}
        for deployment, due_times in dates.values():
            watched = {
                due: text
                for due, text in due_times.items()
                if self._is_open(known, slot_id(deployment.id, due), due, now)
            }
            if watched:
                runs = await api.due_runs(deployment.id, min(watched) - _NEARBY, now)
                decided = self._decide(deployment, due_times, watched, runs, known, now)
                events += [slot.event() for slot in decided]
                told |= {slot.id: slot.outcome for slot in decided}
                await self._catch_up(api, deployment, decided, runs, now)
        if events:
            get_journal().append(*events)
        # Only now: what failed before this is decided again, and nothing is made twice.
        self._told.update(told)
        return len(events)

    @staticmethod
    def _is_open(known: dict[UUID, str], slot: UUID, due: datetime, now: datetime) -> bool:
        outcome = known.get(slot)
        return outcome is None or (outcome == "missed" and now - due < _CORRECTION)

    async def _dates(
        self,
        deployment: DeploymentResponse,
        last: dict[tuple[str, str], tuple[datetime, datetime]],
        now: datetime,
    ) -> dict[datetime, str]:
        """Return the times of a deployment's schedules since shortly before the last on record."""
        found: dict[datetime, str] = {}
        some_active = any(schedule.active for schedule in deployment.schedules)
        for schedule in deployment.schedules:
            if some_active and not schedule.active:
                continue
            text = _text(schedule)
            first, newest = last.get((str(deployment.id), text)) or (schedule.created or now,) * 2
            begin = max(first, newest - _CORRECTION, now - _LONGEST_LOOK)
            try:
                found |= dict.fromkeys(await fires(schedule.schedule, begin, now), text)
            except Exception:
                if schedule.id not in self._faulty:
                    logger.exception("a schedule of %s gives no times", deployment.name)
                    self._faulty.add(schedule.id)
        return found

    def _decide(
        self,
        deployment: DeploymentResponse,
        dates: dict[datetime, str],
        watched: dict[datetime, str],
        all_runs: list[FlowRun],
        known: dict[UUID, str],
        now: datetime,
    ) -> list[Slot]:
        runs: dict[Any, FlowRun] = {
            gate.due_at(run): run for run in all_runs if gate.kind_of(run) != "manual"
        }
        # Prefect counts long intervals from where it stands: its own times are slots as well.
        own = {due for due, run in runs.items() if due not in dates and run.auto_scheduled}
        text = next(iter(watched.values()))
        paused = deployment.paused or not any(s.active for s in deployment.schedules)
        slots: list[Slot] = []
        for due in sorted({*watched, *(due for due in own if due >= min(watched))}):
            run = runs.get(due)
            decided = outcome_of(run, due, now)
            if run is None and paused:
                decided = ("skipped", "the schedule was paused")
            if decided is None or (run is None and any(_is_near(due, other) for other in own)):
                continue
            run_id = run.id if run else None
            schedule = watched.get(due, text)
            slot = Slot(deployment.id, deployment.name, due, schedule, *decided, run_id)
            if known.get(slot.id) in {"run", "skipped", decided[0]}:
                continue
            slots.append(slot)
        return slots

    @staticmethod
    async def _catch_up(
        api: PrefectApi,
        deployment: DeploymentResponse,
        slots: list[Slot],
        runs: list[FlowRun],
        now: datetime,
    ) -> None:
        """Make runs for slots for which Prefect made none, as the job says."""
        spec = gate.spec_of(deployment.parameters)
        if spec is None:
            return
        last_run = max((gate.due_at(run) for run in runs), default=None)
        without = {slot.due_at: slot for slot in slots if slot.reason == NO_RUN_MADE}
        due = [at for at in without if last_run is None or at > last_run]
        for at in to_catch_up(spec.missed, due, now):
            labels = {SLOT: at.isoformat(), REQUESTED_BY: "schedule"}
            params = _params_at(deployment, without[at].schedule)
            await api.make_run(deployment, params, f"slot-{without[at].id}", labels)


def _is_near(one: datetime, other: datetime) -> bool:
    return abs(one.timestamp() - other.timestamp()) <= _NEARBY.total_seconds()


def _params_at(deployment: DeploymentResponse, schedule: str) -> dict[str, Any]:
    """Return the parameters of the runs of a schedule."""
    for known in deployment.schedules:
        if _text(known) == schedule:
            own = (known.parameters or {}).get("params")
            return dict(own if own is not None else _default_params(deployment))
    return _default_params(deployment)


def _default_params(deployment: DeploymentResponse) -> dict[str, Any]:
    return dict((deployment.parameters or {}).get("params") or {})


def _text(schedule: DeploymentSchedule) -> str:
    """Return a schedule as a text that changes when it changes."""
    fields = schedule.schedule.model_dump(mode="json", exclude_none=True)
    return json.dumps(fields, sort_keys=True)[:250]
