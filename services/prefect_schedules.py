"""Schedules of jobs as Prefect has them, and when they fire, as Prefect's own scheduler says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from prefect.client.schemas.schedules import (
    SCHEDULE_TYPES,
    CronSchedule,
    IntervalSchedule,
    RRuleSchedule,
)
from pydantic import TypeAdapter

from smartops.errors import BadInput
from smartops.jobs.scheduling import Schedule
from smartops.jobs.spec import JobSpec

_PAGE = 1000
_MOST = 50_000


def as_prefect(schedule: Schedule) -> SCHEDULE_TYPES:
    """Return a schedule as Prefect's own. Raises BadInput for one that Prefect does not take."""
    try:
        if schedule.cron is not None:
            return CronSchedule(cron=schedule.cron, timezone=schedule.timezone)
        if schedule.rrule is not None:
            return RRuleSchedule(rrule=schedule.rrule, timezone=schedule.timezone)
        zone = ZoneInfo(schedule.timezone)
        anchor: Any = schedule.start or datetime(2020, 1, 1, tzinfo=zone)
        every: Any = schedule.every
        return IntervalSchedule(interval=every, anchor_date=anchor, timezone=schedule.timezone)
    except (ValueError, KeyError, OverflowError) as error:
        text = " ".join(str(error).split())
        raise BadInput(f"the schedule cannot be used: {text}") from error


async def check_schedules(spec: JobSpec) -> None:
    """Raise BadInput for a schedule that Prefect does not take, or that never fires."""
    now = datetime.now(UTC)
    for schedule in spec.schedules:
        await fires(as_prefect(schedule), now, now + timedelta(days=1))


async def fires(schedule: Any, begin: datetime, end: datetime) -> list[datetime]:
    """Return the times of a schedule of Prefect's in a window, both ends included.

    Within the hour of a clock change Prefect also gives times before the one that it is asked from.
    """
    from prefect.server.schemas.schedules import (  # noqa: PLC0415 - the server's
        SCHEDULE_TYPES as SERVER_TYPES,
    )

    own: Any = TypeAdapter(SERVER_TYPES).validate_python(schedule.model_dump())
    found: list[datetime] = []
    while len(found) < _MOST:
        try:
            dates = await own.get_dates(n=_PAGE, start=begin, end=end)
        except (ValueError, OverflowError) as error:  # croniter's own are ValueErrors
            raise BadInput(f"the schedule never fires: {error}") from error
        page = [date for date in dates if begin <= date <= end]
        found += page
        if len(dates) < _PAGE or not page:
            break
        begin = page[-1] + timedelta(microseconds=1)
    return [moment.astimezone(UTC) for moment in found]
