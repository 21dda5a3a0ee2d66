"""Decides what becomes of a finding: an alert, one more of a known one, its end, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Literal
from uuid import UUID

from smartops.alerts.finding import NO_ID, Finding
from smartops.alerts.policy import Policy
from smartops.alerts.routing import Subject, in_maintenance
from smartops.alerts.rules import Rule


@dataclass(frozen=True)
class Mute:
    """What a person does not want to hear of for a while."""

    target: str
    """A rule or a subject, as a pattern."""
    until: datetime
    person: str
    comment: str = ""

    def covers(self, subject: Subject, now: datetime) -> bool:
        """Return whether it silences an alert now."""
        names = (subject.rule, subject.name)
        return now < self.until and any(fnmatchcase(name, self.target) for name in names)

    @property
    def reason(self) -> str:
        """Why something is not sent."""
        said = f": {self.comment}" if self.comment else ""
        return f"muted by {self.person} until {self.until:%Y-%m-%d %H:%M:%S %Z}{said}"


@dataclass(frozen=True)
class Known:
    """An open alert with the same fingerprint."""

    id: UUID
    count: int
    run_id: UUID
    """The run that was counted last."""


@dataclass(frozen=True)
class Verdict:
    """What to do about a finding that a rule covers."""

    do: Literal["raise", "count", "end", "hold", "nothing"]
    """``hold``: it deserves an alert, and yet none is sent."""
    reason: str = ""


def subject_of(rule: Rule, finding: Finding) -> Subject:
    """Return what routes, windows and mutes choose by."""
    return Subject(rule.name, rule.severity, finding.name, finding.labels)


def judge(
    rule: Rule,
    finding: Finding,
    known: Known | None,
    *,
    policy: Policy,
    mutes: Sequence[Mute],
    now: datetime,
) -> Verdict:
    """Return what becomes of a finding that the rule covers."""
    status = rule.means(finding)
    if status == "unclear":
        return Verdict("nothing")
    if status == "well":
        return Verdict("end")
    if known is not None and NO_ID != known.run_id == finding.run_id:
        return Verdict("nothing")  # the same run, told a second time
    if reason := _reason_to_hold(rule, finding, policy, mutes, now):
        return Verdict("hold", reason)
    if known is not None:
        return Verdict("count", f"it is known, and goes on: {known.count + 1} times by now")
    return Verdict("raise")


def _reason_to_hold(
    rule: Rule, finding: Finding, policy: Policy, mutes: Sequence[Mute], now: datetime
) -> str:
    if finding.rehearsal:
        return "it was a rehearsal"
    if now - finding.at > policy.ignore_older_than:
        return f"it was at {finding.at:%Y-%m-%d %H:%M:%S %Z}, too long ago"
    if reason := rule.refuses(finding):
        return reason
    subject = subject_of(rule, finding)
    if window := in_maintenance(policy, subject, finding.at):
        return f"maintenance: {window}"
    return next((mute.reason for mute in mutes if mute.covers(subject, now)), "")
