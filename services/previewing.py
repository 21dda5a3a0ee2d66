"""When a job's schedules fire next, and where a change of the clocks makes that surprising."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from prefect.client.schemas.schedules import IntervalSchedule

from services.prefect_schedules import AnySchedule, fires, in_words, zone_of
from smartops.jobs.calendars import reason_to_skip
from smartops.jobs.spec import JobSpec

_FIRST_LOOK = timedelta(days=2)
_LONGEST_LOOK = timedelta(days=365 * 5)


@dataclass(frozen=True)
class Fire:
    """A time at which a schedule fires; or one at which it should, and a clock change prevents."""

    at: datetime
    """In UTC."""
    local: datetime
    schedule: str
    starts: bool
    """Whether a run starts then."""
    note: str
    """What is special about it, such as a holiday or an hour that comes twice."""

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        times = {"at": self.at.isoformat(), "local": self.local.isoformat()}
        return {**times, "schedule": self.schedule, "starts": self.starts, "note": self.note}


async def preview(
    job: JobSpec, schedules: Iterable[AnySchedule], now: datetime, count: int
) -> list[Fire]:
    """Return the next fires of the active ones of a job's schedules, the earliest first."""
    found: list[Fire] = []
    for schedule in schedules:
        if schedule.active:
            found += await _of_schedule(job, schedule, now, count)
    return sorted(found, key=lambda fire: (fire.at, fire.schedule))[:count]


async def _of_schedule(
    job: JobSpec, schedule: AnySchedule, now: datetime, count: int
) -> list[Fire]:
    look = _FIRST_LOOK
    while True:
        found = await between(job, schedule, now, now + look)
        if len(found) >= count or look >= _LONGEST_LOOK:
            return found[:count]
        look *= 4


async def between(
    job: JobSpec, schedule: AnySchedule, begin: datetime, end: datetime
) -> list[Fire]:
    """Return the fires of a schedule in a window, with those that a clock change swallows."""
    zone = ZoneInfo(zone_of(schedule))
    times = await fires(schedule.schedule, begin, end)
    walls = Counter(moment.astimezone(zone).replace(tzinfo=None, fold=0) for moment in times)
    found = [_fire(job, schedule, moment, zone, walls) for moment in times]
    if not isinstance(schedule.schedule, IntervalSchedule):
        found += await _swallowed(schedule, begin, end, zone, set(walls))
    return sorted(found, key=lambda fire: fire.at)


def _fire(
    job: JobSpec, schedule: AnySchedule, moment: datetime, zone: ZoneInfo, walls: Counter[datetime]
) -> Fire:
    local = moment.astimezone(zone)
    notes = [reason_to_skip(job.skip_on, moment, zone_of(schedule))]
    starts = not notes[0]
    wall = local.replace(tzinfo=None, fold=0)
    if _comes_twice(wall, zone):
        which = "second" if local.fold else "first"
        often = "fires in both" if walls[wall] > 1 else f"fires in the {which} only"
        notes.append(f"the clocks are put back: {wall:%H:%M} comes twice, it {often}")
    note = "; ".join(note for note in notes if note)
    return Fire(moment, local, in_words(schedule), starts, note)


def _comes_twice(wall: datetime, zone: ZoneInfo) -> bool:
    first, second = (wall.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return first is not None and second is not None and first > second


async def _swallowed(
    schedule: AnySchedule, begin: datetime, end: datetime, zone: ZoneInfo, walls: set[datetime]
) -> list[Fire]:
    """Return the times of day that do not exist on their day, and at which it would have fired."""
    if not _changes(begin, end, zone):
        return []
    clock = schedule.schedule.model_copy(update={"timezone": "UTC"})
    first, last = (moment.astimezone(zone).replace(tzinfo=UTC, fold=0) for moment in (begin, end))
    found: list[Fire] = []
    for moment in await fires(clock, first, last):
        wall = moment.replace(tzinfo=None)
        at = wall.replace(tzinfo=zone).astimezone(UTC)
        missing = at.astimezone(zone).replace(tzinfo=None, fold=0) != wall
        if missing and wall not in walls and begin <= at <= end:
            note = f"the clocks are put forward: there is no {wall:%H:%M} on this day"
            local = at.astimezone(zone)
            found.append(Fire(at, local, in_words(schedule), False, note))
    return found


def _changes(begin: datetime, end: datetime, zone: ZoneInfo) -> bool:
    """Return whether the clocks are changed in a window, looking at each day of it."""
    day = begin
    offset = begin.astimezone(zone).utcoffset()
    while day < end:
        day = min(day + timedelta(days=1), end)
        if day.astimezone(zone).utcoffset() != offset:
            return True
    return False
