"""Schedules of jobs as Prefect has them, and when they fire, as Prefect's own scheduler says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import (
    SCHEDULE_TYPES,
    CronSchedule,
    IntervalSchedule,
    RRuleSchedule,
)
from pydantic import TypeAdapter, ValidationError

from smartops.durations import format_duration
from smartops.errors import BadInput
from smartops.jobs.scheduling import Schedule
from smartops.jobs.spec import JobSpec

AnySchedule = DeploymentScheduleCreate | DeploymentSchedule
"""A schedule of a deployment: one to be made, or one that Prefect has."""
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
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInput(f"the schedule cannot be used: {said}") from error
    except (ValueError, KeyError, OverflowError) as error:
        text = " ".join(str(error).split())
        raise BadInput(f"the schedule cannot be used: {text}") from error


def schedules_of(spec: JobSpec) -> list[DeploymentScheduleCreate]:
    """Return a job's schedules as Prefect has them."""
    return [
        DeploymentScheduleCreate(
            schedule=as_prefect(schedule),
            active=schedule.active,
            parameters={"params": schedule.params} if schedule.params else {},
            slug=schedule.name or None,
        )
        for schedule in spec.schedules
    ]


def zone_of(schedule: AnySchedule) -> str:
    """Return the time zone of a schedule."""
    return str(getattr(schedule.schedule, "timezone", None) or "UTC")


def in_words(schedule: AnySchedule) -> str:
    """Return a schedule in a few words."""
    name = f"{schedule.slug}: " if schedule.slug else ""
    off = "" if schedule.active else " (off)"
    own = schedule.schedule
    if isinstance(own, IntervalSchedule):
        return f"{name}every {format_duration(own.interval)}{off}"
    text = own.cron if isinstance(own, CronSchedule) else getattr(own, "rrule", "never")
    return f"{name}{text} {zone_of(schedule)}{off}"


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
