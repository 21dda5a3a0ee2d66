"""How runs went day by day, up to and with a period: from the rollups."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from reports.document import Bars, Chart, Lines, Series
from reports.period import Period, whole
from smartops.audit.rollup_reading import Rollups

_LEAST_DAYS = 14
_MOST_DAYS = 400


@dataclass
class Day:
    """The runs of one day of the zone."""

    start: datetime
    completed: int = 0
    bad: int = 0
    cancelled: int = 0

    @property
    def success(self) -> float | None:
        """The share that completed, None where nothing ended."""
        ended = self.completed + self.bad
        return self.completed / ended if ended else None


def days(rollups: Rollups, period: Period) -> list[Day]:
    """Return the period's days, and as many before it as make two weeks."""
    parts = period.days()[-_MOST_DAYS:]
    first = parts[0]
    while len(parts) < _LEAST_DAYS:
        first = whole("day", first.start - timedelta(hours=1), period.zone)
        parts.insert(0, first)
    found = [Day(part.start) for part in parts]
    starts = [day.start for day in found]
    for hour, sums in rollups.runs(starts[0], period.end):
        day = found[bisect_right(starts, max(hour, starts[0])) - 1]
        day.completed += sums.completed
        day.bad += sums.bad
        day.cancelled += sums.cancelled
    return found


def charts(found: list[Day], zone: str) -> list[Chart]:
    """Return how many runs there were and how many succeeded, day by day."""
    place = ZoneInfo(zone)
    labels = tuple(f"{day.start.astimezone(place):%d %b}" for day in found)
    total = sum(day.completed + day.bad for day in found)
    worst = min(found, key=lambda day: (1.0 if day.success is None else day.success, day.start))
    says = f"{total} runs over {len(found)} days"
    if worst.success is not None:
        on = f"{worst.start.astimezone(place):%d %B}"
        says += f"; the worst was {on}: {worst.bad} failed of {worst.completed + worst.bad}"
    runs = (
        Series("completed", tuple(float(day.completed) for day in found), "good"),
        Series("failed", tuple(float(day.bad) for day in found), "bad"),
        Series("cancelled", tuple(float(day.cancelled) for day in found), "warn"),
    )
    rate = tuple(None if day.success is None else day.success * 100 for day in found)
    return [
        Bars("runs-by-day", "Runs by day", says, labels, runs, "runs"),
        Lines("success-by-day", "Success by day", says, labels, (Series("success", rate),), "%"),
    ]
