"""The time that a report is about: whole days, weeks and months of a zone, or any two moments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from smartops.errors import BadInput

Span = Literal["day", "week", "month"]
SPANS: tuple[Span, ...] = ("day", "week", "month")
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """From a moment up to another, which is the first that does not belong to it."""

    start: datetime
    end: datetime
    zone: str = "UTC"
    span: Span | None = None
    """Whether it is a whole day, week or month of its zone."""

    def __post_init__(self) -> None:
        """Refuse times without a zone, and an end before the start."""
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("a period's times have zones")
        if self.end <= self.start:
            raise BadInput(f"the period ends at {self.end}, before it begins: {self.start}")

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.end - self.start).total_seconds()

    @property
    def label(self) -> str:
        """Its name for people, such as ``21 November 2026`` or ``week 47 of 2026``."""
        first = self.start.astimezone(ZoneInfo(self.zone))
        if self.span == "month":
            return f"{first:%B %Y}"
        if self.span == "week":
            year, week, _ = first.isocalendar()
            return f"week {week} of {year}"
        if self.span == "day":
            return f"{first:%A}, {first.day} {first:%B %Y}"
        last = self.end.astimezone(ZoneInfo(self.zone))
        return f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"

    @property
    def before(self) -> Period:
        """The period before this one: the day, week or month before, or as long a time."""
        if self.span is None:
            return Period(self.start - (self.end - self.start), self.start, self.zone)
        return whole(self.span, self.start - timedelta(hours=1), self.zone)

    def days(self) -> list[Period]:
        """Return the days of its zone that it touches, the first and last cut to it."""
        found, at = [], self.start
        while at < self.end:
            end = min(whole("day", at, self.zone).end, self.end)
            found.append(Period(at, end, self.zone))
            at = end
        return found


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone by its name. Raises BadInput."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadInput(f"there is no time zone {name!r}", hint="Write Europe/Berlin.") from None


def whole(span: Span, moment: datetime, zone: str) -> Period:
    """Return the day, week (from Monday) or month of a zone that a moment belongs to."""
    found = zone_of(zone)
    first = moment.astimezone(found).date()
    if span == "week":
        first -= timedelta(days=first.weekday())
    if span == "month":
        first = first.replace(day=1)
    after = {"day": first + _DAY, "week": first + 7 * _DAY, "month": first + 32 * _DAY}[span]
    if span == "month":
        after = after.replace(day=1)
    return Period(_midnight(first, found), _midnight(after, found), zone, span)


def last(span: Span, now: datetime, zone: str) -> Period:
    """Return the last whole day, week or month that is over."""
    return whole(span, whole(span, now, zone).start - timedelta(hours=1), zone)


def between(start: str | None, end: str | None, zone: str, span: Span, now: datetime) -> Period:
    """Return the period from one text to another: dates of the zone, or times in ISO 8601.

    Without an end it is the day, week or month that begins with, or holds, the start; without both,
    the last one that is over. A date as an end belongs to the period. Raises BadInput.
    """
    if start is None:
        if end is not None:
            raise BadInput("--to goes with --from")
        return last(span, now, zone)
    first, _ = _moment("--from", start, zone)
    if end is None:
        return whole(span, first, zone)
    until, is_date = _moment("--to", end, zone)
    if is_date:
        until = whole("day", until, zone).end
    period = Period(first, until, zone)
    named = (whole(each, first, zone) for each in SPANS)
    return next((p for p in named if (p.start, p.end) == (first, until)), period)


def _moment(option: str, text: str, zone: str) -> tuple[datetime, bool]:
    found = zone_of(zone)
    try:
        if len(text) == len("2026-11-21"):
            return _midnight(date.fromisoformat(text), found), True
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{option} {text}: that is no date and no time",
            hint="Write 2026-11-21, or 2026-11-21T06:00.",
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=found)).astimezone(UTC), False


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
