"""The file of alerts: channels, rules, routes, on-call calendars, maintenance; and reading it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from smartops.alerts.rules import Name, Pattern, Rule, Severity
from smartops.durations import Duration, duration_field
from smartops.errors import BadInput
from smartops.jobs.alerting import LabelName
from smartops.jobs.scheduling import Between, ZoneName
from smartops.plain_yaml import plain_value
from smartops.vocabulary import Strict

SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
SUFFIXES = (".yaml", ".yml", ".json")


class Throttle(Strict):
    """How many messages a channel takes; what is more waits, and is sent together."""

    most: int = Field(default=20, ge=1, le=10_000, description="How many messages.")
    per: Duration = duration_field("1h", description="In which time.")


class Channel(Strict):
    """A way to reach people: a saved connection, and what happens when it fails."""

    block: str = Field(
        pattern=r"^alert-(mail|slack-webhook|slack-bot|apprise)/[a-z0-9-]+$",
        description="The saved connection, as type/name; the types are alert-mail, "
        "alert-slack-webhook, alert-slack-bot and alert-apprise.",
    )
    to: tuple[Annotated[str, Field(min_length=1, max_length=255)], ...] = Field(
        default=(),
        max_length=50,
        description="Whom: addresses of a mail, a channel of a Slack bot. Empty: those that the "
        "connection has.",
    )
    fallback: Name | None = Field(
        default=None, description="The channel to use when this one fails."
    )
    fallback_after: Duration = duration_field(
        "1m", description="How long it is tried before the fallback is used."
    )
    throttle: Throttle = Field(
        default_factory=Throttle, description="How many messages it takes in which time."
    )


class Escalation(Strict):
    """Who is told beside when nobody has acknowledged an alert."""

    after: Duration = Field(description="How long after the alert was raised.")
    channels: tuple[Name, ...] = Field(default=(), description="Channels to use.")
    on_call: Name | None = Field(default=None, description="A calendar that says which.")

    @model_validator(mode="after")
    def _somebody(self) -> Escalation:
        if not self.channels and self.on_call is None:
            raise ValueError("give channels, on_call, or both")
        return self


class Route(Strict):
    """Whom an alert reaches: the first route that takes it, unless that says go_on."""

    name: Name = Field(description="The route's name.")
    rules: tuple[Pattern, ...] = Field(
        default=("*",), min_length=1, description="Names of rules; `*` stands for anything."
    )
    severity: tuple[Severity, ...] = Field(
        default=SEVERITIES, min_length=1, description="Which severities it takes."
    )
    labels: dict[LabelName, Pattern] = Field(
        default_factory=dict, description="Labels that the alert must have."
    )
    between: tuple[Between, ...] = Field(
        default=(), description="Times of day in which it takes alerts. Empty: always."
    )
    timezone: ZoneName = Field(default="UTC", description="The zone of those times.")
    channels: tuple[Name, ...] = Field(default=(), description="Channels to use.")
    on_call: Name | None = Field(default=None, description="A calendar that says which.")
    wait: Duration = duration_field(
        "0s", description="How long to wait for more alerts, which are then sent together."
    )
    group_by: tuple[LabelName, ...] = Field(
        default=(),
        description="Labels that alerts must share to be sent together; `rule` is one as well. "
        "Empty: all that the route takes.",
    )
    repeat: Duration | None = Field(
        default=None, description="How often it is told again until somebody acknowledges it."
    )
    escalate: tuple[Escalation, ...] = Field(
        default=(), max_length=10, description="Who is told beside when nobody acknowledges."
    )
    go_on: bool = Field(default=False, description="Whether later routes may take the alert too.")

    @model_validator(mode="after")
    def _sensible(self) -> Route:
        if not self.channels and self.on_call is None:
            raise ValueError("give channels, on_call, or both")
        if self.repeat is not None and self.repeat.total_seconds() < 1:
            raise ValueError("repeat: not more often than each second")
        if self.timezone != "UTC" and not self.between:
            raise ValueError("timezone goes with between")
        return self


class Shift(Strict):
    """Who is on call in a time of day."""

    between: Between = Field(description="The time of day, and on which days it begins.")
    channels: tuple[Name, ...] = Field(min_length=1, description="How that person is reached.")


class Calendar(Strict):
    """Who is on call when."""

    timezone: ZoneName = Field(default="UTC", description="The zone of the shifts.")
    shifts: tuple[Shift, ...] = Field(default=(), description="All that cover a time are told.")
    otherwise: tuple[Name, ...] = Field(
        default=(), description="Channels for times that no shift covers."
    )


class Maintenance(Strict):
    """A time in which things may fail without an alert."""

    name: Name = Field(description="What it is; it stands with each alert that was not sent.")
    rules: tuple[Pattern, ...] = Field(default=("*",), min_length=1, description="Names of rules.")
    subjects: tuple[Pattern, ...] = Field(
        default=("*",), min_length=1, description="Names of jobs, devices or suites."
    )
    labels: dict[LabelName, Pattern] = Field(
        default_factory=dict, description="Labels that the alert must have."
    )
    start: datetime | None = Field(default=None, description="From when, once; with its zone.")
    end: datetime | None = Field(default=None, description="Until when.")
    between: tuple[Between, ...] = Field(default=(), description="Times of day, again and again.")
    timezone: ZoneName = Field(default="UTC", description="The zone of those times.")

    @model_validator(mode="after")
    def _once_or_again(self) -> Maintenance:
        once = self.start is not None and self.end is not None
        if once == bool(self.between) or (self.start is None) != (self.end is None):
            raise ValueError("give start and end, or between")
        if self.start is not None and self.end is not None:
            if self.start.tzinfo is None or self.end.tzinfo is None:
                raise ValueError("write times with their zone, as in 2026-01-01T06:00:00+01:00")
            if self.start >= self.end:
                raise ValueError("it ends before it begins")
        return self


class Policy(Strict):
    """All that there is to say about alerts."""

    channels: dict[Name, Channel] = Field(default_factory=dict, description="Ways to reach people.")
    rules: tuple[Rule, ...] = Field(default=(), description="What deserves an alert.")
    routes: tuple[Route, ...] = Field(default=(), description="Whom it reaches.")
    on_call: dict[Name, Calendar] = Field(default_factory=dict, description="Calendars.")
    maintenance: tuple[Maintenance, ...] = Field(default=(), description="Times without alerts.")
    ignore_older_than: Duration = duration_field(
        "1d", description="What happened longer ago when it is heard of is not worth an alert."
    )

    @model_validator(mode="after")
    def _names_are_there(self) -> Policy:
        for what, names in (
            ("rules", [rule.name for rule in self.rules]),
            ("routes", [route.name for route in self.routes]),
            ("maintenance", [window.name for window in self.maintenance]),
        ):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{what}: the name {name!r} stands there twice")
        for where, channel in self._named_channels():
            if channel not in self.channels:
                known = ", ".join(sorted(self.channels)) or "none"
                raise ValueError(f"{where}: there is no channel {channel!r} (there is: {known})")
        for where, calendar in self._named_calendars():
            if calendar not in self.on_call:
                raise ValueError(f"{where}: there is no calendar {calendar!r}")
        self._no_circles()
        return self

    def _named_channels(self) -> Iterable[tuple[str, str]]:
        for name, channel in self.channels.items():
            if channel.fallback is not None:
                yield f"channels.{name}.fallback", channel.fallback
        for route in self.routes:
            yield from ((f"routes {route.name}", name) for name in route.channels)
            for step in route.escalate:
                yield from ((f"routes {route.name} escalate", name) for name in step.channels)
        for name, calendar in self.on_call.items():
            yield from ((f"on_call.{name}.otherwise", channel) for channel in calendar.otherwise)
            for shift in calendar.shifts:
                yield from ((f"on_call.{name}", channel) for channel in shift.channels)

    def _named_calendars(self) -> Iterable[tuple[str, str]]:
        for route in self.routes:
            for calendar in (route.on_call, *(step.on_call for step in route.escalate)):
                if calendar is not None:
                    yield f"routes {route.name}", calendar

    def _no_circles(self) -> None:
        for name in self.channels:
            seen = [name]
            while (following := self.channels[seen[-1]].fallback) is not None:
                if following in seen:
                    raise ValueError(f"channels.{name}: the fallbacks go round in a circle")
                seen.append(following)


def load_policy(path: Path) -> Policy:
    """Return the policy of a YAML file, or of all files of a folder taken together.

    Raises BadInput, naming the file and the place in it.
    """
    if not path.exists():
        raise BadInput(f"SMARTOPS_ALERTS: there is no {path}")
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    whole: dict[str, Any] = {}
    for file in files:
        for key, value in _document(file).items():
            whole[key] = _together(file, key, whole[key], value) if key in whole else value
    return _checked(whole, str(path))


def _document(file: Path) -> dict[str, Any]:
    """Return one file, checked for what it says itself: names may stand in other files."""
    try:
        found = plain_value(file.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValueError) as error:
        raise BadInput(f"{file}: cannot be read: {' '.join(str(error).split())}") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise BadInput(f"{file}: a mapping is wanted: channels, rules, routes, ...")
    return found


def _together(file: Path, key: str, one: Any, other: Any) -> Any:
    if isinstance(one, list) and isinstance(other, list):
        return [*one, *other]
    if isinstance(one, dict) and isinstance(other, dict):
        if twice := sorted(one.keys() & other.keys()):
            raise BadInput(f"{file}: {key}.{twice[0]} stands in another file already")
        return {**one, **other}
    raise BadInput(f"{file}: {key} stands in another file already")


def _checked(document: dict[str, Any], name: str) -> Policy:
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = "there is no such field" if first["type"] == "extra_forbidden" else first["msg"]
        said = message.removeprefix("Value error, ")
        raise BadInput(f"{name}: {where}: {said}" if where else f"{name}: {said}") from None
