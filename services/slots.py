"""Puts on record what became of each time at which a schedule should have fired."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.schedules import IntervalSchedule

from services import gate
from services.prefect_api import PrefectApi
from services.prefect_schedules import fires
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import get_journal
from smartops.audit.open_runs import last_slots, outcomes, slots_since
from smartops.audit.store import Store
from smartops.jobs.admission import to_catch_up
from tasks.run_context import (
    REQUESTED_BY,
    SLOT,
    SLOT_ID,
    SLOT_JOB,
    SLOT_SCHEDULE,
    deployed_params,
)

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
    """What it says."""
    key: str
    """What tells it from the others of the job."""
    outcome: str
    """``run``, ``skipped`` or ``missed``."""
    reason: str
    run_id: UUID | None

    @property
    def id(self) -> UUID:
        """The same for each telling of the same slot."""
        return slot_id(self.deployment, self.key, self.due_at)

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


def slot_id(deployment: UUID, key: str, due_at: datetime) -> UUID:
    """Return the id of a slot: one schedule of a deployment fires once at one time."""
    return uuid5(_NAMES, f"{deployment} {key} {due_at.astimezone(UTC).isoformat()}")


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
    if run.state is not None and run.state.name == gate.HELD and now - due_at < _CORRECTION:
        return None  # it waits for its turn
    if now - due_at > GRACE:
        return "missed", "no worker took it in time"
    return None


def _has_begun(run: FlowRun) -> bool:
    """Return whether a run began; Prefect gives one that ends before that a start time as well."""
    ended = run.state is not None and run.state.is_final()
    return run.start_time is not None and (not ended or run.run_count > 0)


@dataclass(frozen=True)
class Beat:
    """A schedule, and the times at which it was to fire lately."""

    schedule: DeploymentSchedule
    times: frozenset[datetime]

    @property
    def key(self) -> str:
        """What tells it from the others of its job, also after it was deployed again."""
        return key_of(self.schedule)

    @property
    def names(self) -> set[str]:
        """How runs name it."""
        return {str(self.schedule.id), *([self.schedule.slug] if self.schedule.slug else [])}

    def runs(self, of_job: Iterable[FlowRun], others: Iterable[Beat]) -> list[FlowRun]:
        """Return the runs that are its own, or of none of the others: it was deployed again."""
        foreign = {name for other in others for name in other.names} - self.names
        return [
            run
            for run in of_job
            if gate.kind_of(run) != "manual" and gate.schedule_of(run) not in foreign
        ]


class Slots:
    """Looks at all schedules, and tells of the slots that have passed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: dict[UUID, str] = {}
        self._faulty: set[UUID] = set()
        self._seen: set[tuple[str, str]] = set()
        """The schedules at the last look, by deployment and text."""
        self._gone: set[tuple[str, str]] = set()
        """Those that were taken away since this program looks."""

    async def tell(
        self, api: PrefectApi, all_deployments: Iterable[DeploymentResponse], now: datetime
    ) -> int:
        """Put on record what is decided since the last look; return how many slots that are."""
        last = await asyncio.to_thread(last_slots, self._store)
        deployments = [one for one in all_deployments if one.schedules]
        seen = {(str(one.id), _text(schedule)) for one in deployments for schedule in one.schedules}
        self._gone |= self._seen - seen
        beats = {one.id: await self._beats(one, last, now) for one in deployments}
        self._gone -= seen
        self._seen = seen
        times = [due for found in beats.values() for beat in found for due in beat.times]
        if not times:
            return 0
        on_record = await asyncio.to_thread(slots_since, self._store, min(times))
        events: list[Event] = []
        told: dict[UUID, str] = {}
        for deployment in deployments:
            own = beats[deployment.id]
            present = {
                slot_id(deployment.id, beat.key, due): due for beat in own for due in beat.times
            }
            known = {**outcomes(on_record, deployment.id, present), **self._told}
            for slot in await self._slots_of(api, deployment, own, known, now):
                events.append(slot.event())
                told[slot.id] = slot.outcome
        if events:
            get_journal().append(*events)
        # Only now: what failed before this is decided again, and nothing is made twice.
        self._told.update(told)
        return len(events)

    async def _slots_of(
        self,
        api: PrefectApi,
        deployment: DeploymentResponse,
        beats: list[Beat],
        known: dict[UUID, str],
        now: datetime,
    ) -> list[Slot]:
        """Return what is decided of a job's slots; make runs for those that are to be caught up."""
        watched = {
            beat.key: {
                due
                for due in beat.times
                if self._is_open(known, slot_id(deployment.id, beat.key, due), due, now)
            }
            for beat in beats
        }
        first = min((due for times in watched.values() for due in times), default=None)
        if first is None:
            return []
        runs = await api.due_runs(deployment.id, first - _NEARBY, now)
        found: list[Slot] = []
        for beat in beats:
            if watched[beat.key]:
                own = beat.runs(runs, beats)
                decided = self._decide(deployment, beat, watched[beat.key], own, known, now)
                await self._catch_up(api, deployment, beat, decided, own, now)
                found += decided
        return found

    @staticmethod
    def _is_open(known: dict[UUID, str], slot: UUID, due: datetime, now: datetime) -> bool:
        outcome = known.get(slot)
        return outcome is None or (outcome == "missed" and now - due < _CORRECTION)

    async def _beats(
        self,
        deployment: DeploymentResponse,
        last: dict[tuple[str, str], tuple[datetime, datetime]],
        now: datetime,
    ) -> list[Beat]:
        """Return the schedules of a deployment with their times since shortly before the last."""
        found: list[Beat] = []
        for schedule in deployment.schedules:
            begin = max(self._begin(deployment, schedule, last, now), now - _LONGEST_LOOK)
            try:
                times = await fires(schedule.schedule, begin, now)
            except Exception:
                if schedule.id not in self._faulty:
                    logger.exception("a schedule of %s gives no times", deployment.name)
                    self._faulty.add(schedule.id)
            else:
                found.append(Beat(schedule, frozenset(times)))
        return found

    def _begin(
        self,
        deployment: DeploymentResponse,
        schedule: DeploymentSchedule,
        last: dict[tuple[str, str], tuple[datetime, datetime]],
        now: datetime,
    ) -> datetime:
        """Return since when a schedule counts.

        Deployed again it is made anew, and counts on. It does not where it was another meanwhile.
        """
        mine = (str(deployment.id), _text(schedule))
        made = max(schedule.created or now, schedule.updated or schedule.created or now)
        if mine not in last or mine in self._gone:
            return made
        first, newest = last[mine]
        current = {(str(deployment.id), _text(other)) for other in deployment.schedules}
        others = [
            end
            for place, (_, end) in last.items()
            if place[0] == mine[0] and place not in current and end > newest
        ]
        return max(first, newest - _CORRECTION, *others)

    def _decide(
        self,
        deployment: DeploymentResponse,
        beat: Beat,
        watched: set[datetime],
        all_runs: list[FlowRun],
        known: dict[UUID, str],
        now: datetime,
    ) -> list[Slot]:
        runs: dict[datetime, FlowRun] = {gate.due_at(run): run for run in all_runs}
        # Prefect counts long intervals from where it stands: its own times are slots as well.
        own = {
            due
            for due, run in runs.items()
            if due not in beat.times and gate.schedule_of(run) in beat.names and run.auto_scheduled
        }
        drifts = isinstance(beat.schedule.schedule, IntervalSchedule)
        paused = deployment.paused or not beat.schedule.active
        text = _text(beat.schedule)
        slots: list[Slot] = []
        for due in sorted({*watched, *(due for due in own if due >= min(watched))}):
            run = runs.get(due)
            decided = outcome_of(run, due, now)
            if run is None and paused:
                decided = ("skipped", "the schedule was paused")
            swallowed = drifts and run is None and any(_is_near(due, other) for other in own)
            if decided is None or swallowed:
                continue
            run_id = run.id if run else None
            slot = Slot(deployment.id, deployment.name, due, text, beat.key, *decided, run_id)
            if known.get(slot.id) in {"run", "skipped", decided[0]}:
                continue
            slots.append(slot)
        return slots

    @staticmethod
    async def _catch_up(
        api: PrefectApi,
        deployment: DeploymentResponse,
        beat: Beat,
        slots: list[Slot],
        runs: list[FlowRun],
        now: datetime,
    ) -> None:
        """Make runs for slots for which Prefect made none, as the job says."""
        spec = gate.spec_of(deployment.parameters)
        if spec is None:
            return
        without = {slot.due_at: slot for slot in slots if slot.reason == NO_RUN_MADE}
        newest = max((gate.due_at(run) for run in runs), default=None)
        if spec.missed.run == "last" and newest is not None:
            without = {at: slot for at, slot in without.items() if at > newest}
        for at in to_catch_up(spec.missed, list(without), now):
            labels = {**slot_labels(deployment, beat.schedule, at), REQUESTED_BY: "schedule"}
            params = params_of(deployment, beat.schedule)
            await api.make_run(deployment, params, f"slot-{without[at].id}", labels)


def _is_near(one: datetime, other: datetime) -> bool:
    return abs(one.timestamp() - other.timestamp()) <= _NEARBY.total_seconds()


def slot_labels(
    deployment: DeploymentResponse, schedule: DeploymentSchedule, due_at: datetime
) -> dict[str, Any]:
    """Return the labels of a run that is made later for a slot."""
    return {
        SLOT: due_at.isoformat(),
        SLOT_ID: str(slot_id(deployment.id, key_of(schedule), due_at)),
        SLOT_JOB: deployment.name,
        SLOT_SCHEDULE: _text(schedule),
        gate.SCHEDULE: schedule.slug or str(schedule.id),
    }


def params_of(deployment: DeploymentResponse, schedule: DeploymentSchedule) -> dict[str, Any]:
    """Return the job's parameters for the runs of a schedule."""
    own = (schedule.parameters or {}).get("params")
    return deployed_params(deployment) if own is None else dict(own)


def key_of(schedule: DeploymentSchedule) -> str:
    """Return what tells a schedule from the others of its job: its name, else what it says."""
    return schedule.slug or _text(schedule)


def _text(schedule: DeploymentSchedule) -> str:
    """Return a schedule as a text that changes when it changes."""
    fields = schedule.schedule.model_dump(mode="json", exclude_none=True)
    return json.dumps(fields, sort_keys=True)[:250]
