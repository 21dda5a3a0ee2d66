"""When schedules fire: the preview says what Prefect's scheduler does, in every time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import pytest
from pydantic import ValidationError

from services.prefect_schedules import as_prefect, fires, schedules_of
from services.previewing import between, preview
from smartops.errors import BadInput
from smartops.jobs.scheduling import Schedule
from smartops.jobs.spec import JobSpec

BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)


def job(*schedules: dict[str, Any], **fields: Any) -> JobSpec:
    step = {"id": "a", "kind": "wait", "duration": "1s"}
    return JobSpec.model_validate({"name": "j", "steps": [step], "schedules": schedules, **fields})


def changes(zone: ZoneInfo) -> list[datetime]:
    """Return when the clocks of a zone are changed in ten years, to the day."""
    found, day = [], BEGIN
    offset = day.astimezone(zone).utcoffset()
    while day < END:
        day += timedelta(days=1)
        if (now := day.astimezone(zone).utcoffset()) != offset:
            found.append(day)
            offset = now
    return found


async def scheduler(schedule: Any, begin: datetime, end: datetime) -> list[datetime]:
    """Return the fires as Prefect's scheduler makes runs: it looks ahead, again and again."""
    from prefect.server.schemas.schedules import SCHEDULE_TYPES
    from pydantic import TypeAdapter

    own: Any = TypeAdapter(SCHEDULE_TYPES).validate_python(schedule.model_dump())
    found: set[datetime] = set()
    now = begin
    while now <= end:
        dates = await own.get_dates(n=100, start=now, end=end)
        found.update(moment.astimezone(UTC) for moment in dates)
        now += timedelta(minutes=133)
    return sorted(moment for moment in found if begin <= moment <= end)


def all_kinds_of_zones() -> list[str]:
    """Return a zone for each way in which clocks are changed within the ten years."""
    seen: dict[tuple[Any, ...], str] = {}
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        rules = tuple((at, at.astimezone(zone).utcoffset()) for at in changes(zone))
        seen.setdefault(rules or (BEGIN.astimezone(zone).utcoffset(),), name)
    return list(seen.values())


@pytest.mark.parametrize("cron", ["30 2 * * *", "*/20 0-3 * * *"])
async def test_the_preview_is_what_fires_in_every_zone(cron: str) -> None:
    """Over ten years, around each change of the clocks of each zone: no fire more, none less."""
    looked = 0
    for name in all_kinds_of_zones():
        one = job({"cron": cron, "timezone": name})
        [schedule] = schedules_of(one)
        for change in changes(ZoneInfo(name))[:2]:
            begin, end = change - timedelta(days=1, hours=6), change + timedelta(days=1)
            shown = [f.at for f in await between(one, schedule, begin, end) if f.starts]
            assert shown == await scheduler(schedule.schedule, begin, end), (name, change)
            looked += 1
    assert looked > 50


async def test_ten_years_in_one_zone() -> None:
    """A daily schedule fires once a day, whatever the clocks do."""
    [schedule] = schedules_of(job({"cron": "30 12 * * *", "timezone": "Europe/Berlin"}))
    found = await between(job(), schedule, BEGIN, END)
    days = [fire.local.date() for fire in found]
    assert len(days) == len(set(days)) == (END - BEGIN).days
    assert {f"{fire.local:%H:%M}" for fire in found} == {"12:30"}


async def test_clock_changes_are_flagged() -> None:
    """The hour that does not exist, and the one that comes twice."""
    nightly = job({"cron": "30 2 * * *", "timezone": "Europe/Berlin"})
    spring = await preview(nightly, schedules_of(nightly), datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert any("there is no 02:30 on this day" in fire.note for fire in spring)
    autumn = await preview(
        nightly, schedules_of(nightly), datetime(2026, 10, 24, 12, tzinfo=UTC), 2
    )
    assert any("02:30 comes twice" in fire.note for fire in autumn)
    summer = await preview(nightly, schedules_of(nightly), datetime(2026, 7, 1, tzinfo=UTC), 5)
    assert [fire.note for fire in summer] == [""] * 5


async def test_several_schedules_and_days_off() -> None:
    """The fires of all, in order; a holiday is shown, with the reason for which nothing starts."""
    several = job(
        {"cron": "0 6 * * *", "timezone": "Europe/Berlin", "name": "early"},
        {"every": "12h", "timezone": "Europe/Berlin", "name": "beat"},
        {"rrule": "FREQ=DAILY;BYHOUR=18;BYMINUTE=0;BYSECOND=0", "name": "late"},
        {"cron": "* * * * *", "name": "off", "active": False},
        skip_on={"holidays": ["DE-BY"]},
    )
    found = await preview(
        several, schedules_of(several), datetime(2026, 1, 5, 23, 30, tzinfo=UTC), 4
    )
    assert [(f.schedule.split(":")[0], f.starts) for f in found] == [
        ("early", False),
        ("beat", False),
        ("late", False),
        ("beat", True),
    ]
    assert "Epiphany" in found[0].note
    assert [fire.at for fire in found] == sorted(fire.at for fire in found)


@pytest.mark.parametrize(
    "bad", [{"cron": "61 * * * *"}, {"cron": "x x x x x"}, {"rrule": "FREQ=NEVER"}]
)
def test_schedules_that_prefect_does_not_take(bad: dict[str, str]) -> None:
    """They are refused before anything is deployed."""
    with pytest.raises(BadInput, match="cannot be used"):
        as_prefect(Schedule.model_validate(bad))


async def test_the_start_of_an_interval() -> None:
    """Intervals are counted from it."""
    start = "2026-01-01T00:07:00+01:00"
    counted = Schedule.model_validate({"every": "1h", "start": start})
    found = await fires(as_prefect(counted), BEGIN, BEGIN + timedelta(hours=3))
    assert [moment.minute for moment in found] == [7, 7, 7]


def test_a_schedule_may_have_parameters() -> None:
    """They are checked with the job, and are those of its runs."""
    params = {"n": {"type": "integer"}}
    made = job({"cron": "0 6 * * *", "params": {"n": 5}}, params=params)
    assert [s.parameters for s in schedules_of(made)] == [{"params": {"n": 5}}]
    with pytest.raises(ValidationError, match="is not of type integer"):
        job({"cron": "0 6 * * *", "params": {"n": "five"}}, params=params)
