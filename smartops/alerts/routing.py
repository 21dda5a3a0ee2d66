"""Whom an alert reaches, and when: routes, on-call calendars, maintenance, escalation. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from smartops.alerts.policy import Calendar, Maintenance, Policy, Route
from smartops.alerts.rules import Severity, fits, has_labels
from smartops.jobs.calendars import is_between

NOBODY = "no route takes it at this time"


@dataclass(frozen=True)
class Subject:
    """What routes choose by."""

    rule: str
    severity: Severity
    name: str
    labels: Mapping[str, str]


def routes_for(policy: Policy, subject: Subject, now: datetime) -> list[Route]:
    """Return the routes that take an alert now, in their order."""
    found: list[Route] = []
    for route in policy.routes:
        if _takes(route, subject, now):
            found.append(route)
            if not route.go_on:
                break
    return found


def _takes(route: Route, subject: Subject, now: datetime) -> bool:
    return (
        fits(subject.rule, route.rules)
        and subject.severity in route.severity
        and has_labels(subject.labels, route.labels)
        and (not route.between or is_between(route.between, now, ZoneInfo(route.timezone)))
    )


def channels_of(
    policy: Policy, channels: Sequence[str], calendar: str | None, now: datetime
) -> list[str]:
    """Return channels, and with them those of whoever is on call now; each once."""
    found = list(channels)
    if calendar is not None:
        found += on_call(policy.on_call[calendar], now)
    return list(dict.fromkeys(found))


def on_call(calendar: Calendar, now: datetime) -> list[str]:
    """Return the channels of who is on call."""
    zone = ZoneInfo(calendar.timezone)
    found = [
        channel
        for shift in calendar.shifts
        if is_between((shift.between,), now, zone)
        for channel in shift.channels
    ]
    return found or list(calendar.otherwise)


def in_maintenance(policy: Policy, subject: Subject, at: datetime) -> str:
    """Return the name of the maintenance window that covers something, "" where none does."""
    for window in policy.maintenance:
        if _covers(window, subject) and _is_on(window, at):
            return window.name
    return ""


def _covers(window: Maintenance, subject: Subject) -> bool:
    return (
        fits(subject.rule, window.rules)
        and fits(subject.name, window.subjects)
        and has_labels(subject.labels, window.labels)
    )


def _is_on(window: Maintenance, at: datetime) -> bool:
    if window.start is not None and window.end is not None:
        return window.start <= at < window.end
    return is_between(window.between, at, ZoneInfo(window.timezone))


def group_key(route: Route, subject: Subject) -> str:
    """Return what alerts have in common that are sent together."""
    labels = {**subject.labels, "rule": subject.rule}
    return " ".join([route.name, *(f"{name}={labels.get(name, '')}" for name in route.group_by)])


@dataclass(frozen=True)
class Standing:
    """How an open alert stands."""

    raised_at: datetime
    said_at: datetime
    """When it was told last."""
    level: int
    """How many of the steps of escalation were taken."""
    acknowledged: bool


@dataclass(frozen=True)
class Next:
    """What is to be said of an alert that stays open."""

    kind: str
    """``escalated`` or ``repeated``."""
    route: Route
    channels: tuple[str, ...]
    level: int


def next_step(
    policy: Policy, routes: Sequence[str], standing: Standing, now: datetime
) -> Next | None:
    """Return what is due for an open alert: the next escalation, else telling it again."""
    if standing.acknowledged:
        return None
    known = [route for route in policy.routes if route.name in routes]
    steps = sorted(
        ((step.after, route, step) for route in known for step in route.escalate),
        key=lambda found: found[0],
    )
    if standing.level < len(steps):
        after, route, step = steps[standing.level]
        if now - standing.raised_at >= after:
            channels = channels_of(policy, step.channels, step.on_call, now)
            return Next("escalated", route, tuple(channels), standing.level + 1)
    for route in known:
        if route.repeat is not None and now - standing.said_at >= route.repeat:
            channels = channels_of(policy, route.channels, route.on_call, now)
            return Next("repeated", route, tuple(channels), standing.level)
    return None
