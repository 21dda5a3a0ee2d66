"""Whether a job may start at a time: holidays, single days, times of day. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from smartops.jobs.scheduling import WEEKDAYS, Between, SkipOn

if TYPE_CHECKING:
    from holidays import HolidayBase


def check_place(code: str) -> None:
    """Raise ValueError for a code of which no holidays are known, such as ``DE-XX``."""
    _holidays(code)


@functools.cache
def _holidays(code: str) -> HolidayBase:
    import holidays  # noqa: PLC0415 - slow to import, and few jobs need it

    country, hyphen, part = code.partition("-")
    unknown = ValueError(
        f"no holidays are known of {code!r}; write a country such as DE, or a part of one such as "
        "DE-BY"
    )
    if country not in holidays.list_supported_countries() or (hyphen and not part):
        raise unknown
    try:
        return holidays.country_holidays(country, subdiv=part or None, language="en_US")
    except NotImplementedError:
        raise unknown from None


def reason_to_skip(skip_on: SkipOn, due_at: datetime, timezone: str) -> str:
    """Return why nothing is to start at a time, and "" where nothing stands against it.

    ``due_at`` has a zone; days and times of day are those of ``skip_on.timezone``, else of
    ``timezone``.
    """
    zone = ZoneInfo(skip_on.timezone or timezone)
    local = due_at.astimezone(zone)
    day = local.date()
    if day in skip_on.dates:
        return f"{day} is a day on which the job is not to start"
    for code in skip_on.holidays:
        name = _holidays(code).get(day)
        if name:
            return f"{day} is a holiday in {code}: {name}"
    for window in skip_on.between:
        if _is_in(window, local, zone):
            return f"{local:%H:%M} is within {window.start} to {window.end}"
    return ""


def is_between(windows: Iterable[Between], at: datetime, zone: ZoneInfo) -> bool:
    """Return whether a time is in one of some windows, whose times are those of a zone."""
    local = at.astimezone(zone)
    return any(_is_in(window, local, zone) for window in windows)


def _is_in(window: Between, local: datetime, zone: ZoneInfo) -> bool:
    """Return whether a time is in a window that began on this day or on the day before.

    Times are compared as moments: a window from 01:30 to 03:30 is an hour shorter in the night in
    which the clocks are put forward.
    """
    for day in (local.date() - timedelta(days=1), local.date()):
        if WEEKDAYS[day.weekday()] not in window.days:
            continue
        ends_on = day if window.first < window.last else day + timedelta(days=1)
        first, last = _moment(day, window.first, zone), _moment(ends_on, window.last, zone)
        if first <= local.astimezone(UTC) < last:
            return True
    return False


def _moment(day: date, clock: time, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock, zone).astimezone(UTC)
