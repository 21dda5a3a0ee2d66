"""Rules: which outcome deserves an alert. Models as people write them, and pure decisions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from smartops.alerts.finding import Finding
from smartops.durations import Duration, duration_field
from smartops.jobs.alerting import LabelName
from smartops.vocabulary import Strict

NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Severity = Literal["info", "warning", "critical"]
Pattern = Annotated[str, Field(min_length=1, max_length=255)]
Distinction = Literal["step", "error"]


def fits(name: str, patterns: Iterable[str]) -> bool:
    """Return whether a name fits one of some patterns; ``*`` stands for anything."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def has_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Return whether all labels that are wanted are there, and fit their patterns."""
    return all(
        label in labels and fnmatchcase(labels[label], pattern) for label, pattern in wanted.items()
    )


class _Rule(Strict):
    name: Name = Field(description="The rule's name; it stands in the alert.")
    severity: Severity = Field(
        default="warning", description="How much it matters: info, warning or critical."
    )
    labels: dict[LabelName, Pattern] = Field(
        default_factory=dict,
        description="Labels that the job must have (`alert: {labels: ...}` in its file); `*` "
        "stands for anything.",
    )
    recovery: bool = Field(default=True, description="Whether it is told when all is well again.")

    def names(self) -> tuple[str, ...]:
        """Return the patterns of names that the rule is for."""
        return ("*",)

    def refuses(self, finding: Finding) -> str:
        """Return why the rule does not take a finding of its kind that is bad; "" where it does."""
        return ""

    def means(self, finding: Finding) -> Literal["bad", "well", "unclear"]:
        """Return what a finding of its kind means to the rule."""
        return "bad" if finding.bad else "well"

    def covers(self, finding: Finding) -> bool:
        """Return whether the rule is about what was found at all."""
        return (
            finding.on == self.on  # type: ignore[attr-defined]
            and fits(finding.name, self.names())
            and has_labels(finding.labels, self.labels)
        )

    def distinctions(self) -> tuple[Distinction, ...]:
        """Return what makes two findings of one subject two alerts."""
        return ()


class _JobRule(_Rule):
    jobs: tuple[Pattern, ...] = Field(
        default=("*",), min_length=1, description="Names of jobs; `*` stands for anything."
    )

    def names(self) -> tuple[str, ...]:
        """Return the patterns of jobs' names."""
        return self.jobs


class OnFailure(_JobRule):
    """A run failed or its process died, after the last attempt of its steps."""

    on: Literal["failure"]
    in_a_row: int = Field(
        default=1, ge=1, le=1000, description="How many runs must have failed one after the other."
    )
    apart_by: tuple[Distinction, ...] = Field(
        default=(),
        description="What makes failures of one job different alerts: step, error. Empty: one "
        "alert for each job.",
    )
    children: bool = Field(
        default=False,
        description="Whether runs count that a step of another run has started.",
    )

    def refuses(self, finding: Finding) -> str:
        """Return why a failure does not count."""
        if finding.child and not self.children:
            return "a step of another run started it, and that run has its own alert"
        if finding.in_a_row < self.in_a_row:
            return f"only {finding.in_a_row} of {self.in_a_row} failures in a row"
        return ""

    def distinctions(self) -> tuple[Distinction, ...]:
        """Return what makes two failures of a job two alerts."""
        return self.apart_by


class OnLate(_JobRule):
    """A run that a schedule wanted did not start, or started late."""

    on: Literal["late"]
    after: Duration | None = Field(
        default=None,
        description="A run that starts later than this is late. Empty: only runs that were missed "
        "count.",
    )

    def means(self, finding: Finding) -> Literal["bad", "well", "unclear"]:
        """Return whether a start is late, or in time."""
        if finding.delay is None:
            return "bad"
        late = self.after is not None and finding.delay > self.after
        return "bad" if late else "well"


class OnSlow(_JobRule):
    """A run takes longer than it may, or than it usually does. It is told while it goes on."""

    on: Literal["slow"]
    longer_than: Duration | None = Field(default=None, description="The limit.")
    times_usual: float | None = Field(
        default=None,
        gt=1,
        le=1000,
        description="How many times the usual duration: the median of the runs before it.",
    )
    least_runs: int = Field(
        default=10, ge=2, le=100, description="How many runs it takes to know what is usual."
    )

    @model_validator(mode="after")
    def _one_limit(self) -> OnSlow:
        if self.longer_than is None and self.times_usual is None:
            raise ValueError("give longer_than, times_usual, or both")
        if self.times_usual is None and "least_runs" in self.model_fields_set:
            raise ValueError("least_runs goes with times_usual")
        return self

    def limit(self, usual: timedelta | None, before: int) -> timedelta | None:
        """Return how long a run may take, None where that is not known."""
        limits = [self.longer_than] if self.longer_than is not None else []
        if self.times_usual is not None and usual is not None and before >= self.least_runs:
            limits.append(usual * self.times_usual)
        return min(limits, default=None)

    def means(self, finding: Finding) -> Literal["bad", "well", "unclear"]:
        """Return whether a duration is too long, or the limit is not known."""
        limit = self.limit(finding.usual, finding.before)
        if limit is None or finding.duration is None:
            return "unclear"
        return "bad" if finding.duration > limit else "well"


class OnSlo(_JobRule):
    """An objective of a job (`slo/*.yaml` of the deployments) uses up its budget too fast."""

    on: Literal["slo"]
    objectives: tuple[Pattern, ...] = Field(
        default=("*",),
        min_length=1,
        description="Names of the jobs' objectives; `*` stands for anything.",
    )
    over: Duration = duration_field(
        "1d", gt=timedelta(), description="Over which time is looked at."
    )
    burn: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        description="How many times faster than it may the error budget must be spent: 1 uses it "
        "up exactly.",
    )
    least_runs: int = Field(
        default=5,
        ge=1,
        le=10_000,
        description="Of fewer runs nothing is concluded; freshness counts time, and no runs.",
    )

    def wants(self, job: str, objective: str) -> bool:
        """Return whether the rule is about an objective of a job."""
        return fits(job, self.jobs) and fits(objective, self.objectives)


class _NoJobRule(_Rule):
    @model_validator(mode="after")
    def _no_labels(self) -> Self:
        if self.labels:
            raise ValueError("labels: jobs have labels, and this rule is about no job")
        return self


class OnQuarantine(_NoJobRule):
    """A device does not answer, and is left alone for a while."""

    on: Literal["quarantine"]
    devices: tuple[Pattern, ...] = Field(
        default=("*",), min_length=1, description="Names of devices; `*` stands for anything."
    )

    def names(self) -> tuple[str, ...]:
        """Return the patterns of devices' names."""
        return self.devices


class OnNeedsDecision(_JobRule):
    """A run stopped, as nobody knows what an effect of it did: a person has to say."""

    on: Literal["needs_decision"]


class OnQuality(_Rule):
    """A check of data did not hold."""

    on: Literal["quality"]
    suites: tuple[Pattern, ...] = Field(
        default=("*",), min_length=1, description="Names of suites; `*` stands for anything."
    )
    status: tuple[Literal["warn", "fail"], ...] = Field(
        default=("fail",), min_length=1, description="Which results count: warn, fail."
    )

    def names(self) -> tuple[str, ...]:
        """Return the patterns of suites' names."""
        return self.suites

    def refuses(self, finding: Finding) -> str:
        """Return why a result does not count."""
        return "" if finding.status in self.status else f"the rule is not for {finding.status}"


class OnVerification(_NoJobRule):
    """The audit record is not what it was: `smartops audit verify` found it altered."""

    on: Literal["verification"]


class OnSilence(_JobRule):
    """No run for a while: the dead man's switch."""

    on: Literal["silence"]
    within: Duration = Field(
        gt=timedelta(), description="How long there may be no run of the job that succeeds."
    )
    any_end: bool = Field(
        default=False, description="Whether a run counts however it ended; else it must succeed."
    )


Rule = Annotated[
    OnFailure
    | OnLate
    | OnSlow
    | OnSlo
    | OnQuarantine
    | OnNeedsDecision
    | OnQuality
    | OnVerification
    | OnSilence,
    Field(discriminator="on"),
]


def fingerprint(rule: Rule, finding: Finding) -> str:
    """Return what equal alerts have in common."""
    parts = [rule.name, finding.subject]
    parts += [str(getattr(finding, what)) for what in rule.distinctions()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
