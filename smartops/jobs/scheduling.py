"""When a job runs by itself, and what happens when that goes wrong: frozen models, no behaviour."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, Field, field_validator, model_validator

from smartops.durations import Duration, duration_field
from smartops.vocabulary import Strict, blank_in_form

TIME_PATTERN = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
ClockTime = Annotated[str, Field(pattern=TIME_PATTERN)]
Overlap = Literal["skip", "queue_one", "queue_all", "cancel_running", "allow"]


_NO_PLACES = {"localtime", "posixrules", "Factory"}


def known_zone(name: str) -> str:
    """Return the name of a time zone; raise ValueError for one that is none."""
    if name not in available_timezones() - _NO_PLACES:
        raise ValueError(f"{name!r} is no time zone; write one such as Europe/Berlin or UTC")
    return name


ZoneName = Annotated[str, AfterValidator(known_zone)]
"""The name of a time zone, such as Europe/Berlin."""


class Schedule(Strict):
    """When a job starts: give exactly one of cron, every and rrule."""

    cron: str | None = Field(
        default=None,
        max_length=200,
        title="Cron",
        description="Five fields: minute, hour, day of month, month, weekday, as in 0 6 * * 1-5.",
    )
    every: Duration | None = Field(
        default=None,
        title="Every",
        description="An interval, such as 15m. It keeps its beat over a change of the clocks.",
    )
    rrule: str | None = Field(
        default=None,
        max_length=2000,
        title="RRULE",
        description="A recurrence rule of RFC 5545, such as FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=18.",
    )
    timezone: ZoneName = Field(
        default="UTC", title="Time zone", description="An IANA name, such as Europe/Berlin."
    )
    start: datetime | None = Field(
        default=None,
        title="Start",
        description="With every: the time that intervals are counted from, with its zone. "
        "Empty: 2020-01-01 00:00 in the time zone.",
    )
    name: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9-]*)?$",
        max_length=60,
        title="Name",
        description="Tells several schedules of a job apart.",
    )
    params: dict[str, Any] = Field(
        default_factory=dict,
        title="Parameters",
        description="Values of the job's parameters for the runs of this schedule.",
    )
    active: bool = Field(
        default=True, title="Active", description="Whether it starts runs at present."
    )

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, text: str | None) -> str | None:
        if text is not None and not text.startswith("@") and len(text.split()) != 5:
            raise ValueError("cron has five fields: minute, hour, day of month, month, weekday")
        return text

    @field_validator("rrule")
    @classmethod
    def _goes_on(cls, text: str | None) -> str | None:
        if text is not None and re.search(r"INTERVAL=0*(?:;|$)", text, re.IGNORECASE):
            raise ValueError("an INTERVAL of 0 would never come to an end")
        return text

    @field_validator("every")
    @classmethod
    def _not_a_storm(cls, value: Any) -> Any:
        if value is not None and value.total_seconds() < 1:
            raise ValueError("an interval must be 1s or longer")
        return value

    @field_validator("start")
    @classmethod
    def _with_zone(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("write the start with its zone, as in 2026-01-01T06:00:00+01:00")
        if value is not None and not 1970 <= value.year <= 2200:
            raise ValueError("a start lies between 1970 and 2200")
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> Schedule:
        if sum(way is not None for way in (self.cron, self.every, self.rrule)) != 1:
            raise ValueError("give exactly one of cron, every and rrule")
        if self.start is not None and self.every is None:
            raise ValueError("start goes with every")
        return self


class Missed(Strict):
    """What becomes of runs that could not start when they were due."""

    run: Literal["skip", "last", "all"] = Field(
        default="last",
        title="Run",
        description="Which of them still run: none (skip), the last one, or all in their order.",
    )
    within: Duration = duration_field(
        "1d", title="Within", description="What was due longer ago than this does not run."
    )
    grace: Duration = duration_field(
        "1m",
        title="Grace",
        description="A run counts as missed when it could not start for this long.",
    )
    parallel: int = Field(
        default=1,
        ge=1,
        le=100,
        title="In parallel",
        description="How many of them may run at the same time.",
    )


class Between(Strict):
    """A time of day in which nothing starts; it may reach over midnight."""

    start: ClockTime = Field(title="From", description="First minute, such as 22:00.")
    end: ClockTime = Field(title="To", description="First minute after it, such as 06:00.")
    days: tuple[Weekday, ...] = Field(
        default=WEEKDAYS,
        min_length=1,
        title="Days",
        description="Weekdays on which it begins: mon, tue, wed, thu, fri, sat, sun.",
    )

    @property
    def first(self) -> time:
        """Its first minute."""
        return time.fromisoformat(self.start)

    @property
    def last(self) -> time:
        """The first minute after it."""
        return time.fromisoformat(self.end)

    @model_validator(mode="after")
    def _has_length(self) -> Between:
        if self.start == self.end:
            raise ValueError("from and to are the same time")
        return self


class SkipOn(Strict):
    """Times at which no schedule starts the job: each is on record as skipped, with the reason."""

    holidays: tuple[str, ...] = Field(
        default=(),
        title="Holidays",
        description="Public holidays of countries or their parts, by ISO code: DE, DE-BY, US-CA.",
    )
    dates: tuple[date, ...] = Field(
        default=(), title="Dates", description="Single days, such as 2026-12-24."
    )
    between: tuple[Between, ...] = Field(
        default=(), title="Between", description="Times of day, such as a maintenance window."
    )
    timezone: ZoneName | None = Field(
        default=None,
        title="Time zone",
        description="The zone of days and times. Empty: the one of the schedule.",
        json_schema_extra=blank_in_form,
    )

    @field_validator("holidays")
    @classmethod
    def _known_places(cls, codes: tuple[str, ...]) -> tuple[str, ...]:
        from smartops.jobs.calendars import check_place  # noqa: PLC0415 - slow, and rarely used

        for code in codes:
            check_place(code)
        return codes
