"""What facts mean: each becomes what rules may take for wrong, or for well again. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from smartops.alerts.finding import NO_ID, Finding
from smartops.durations import format_duration

_LONGEST_SUBJECT = 255
FAILED = ("failed", "crashed")
"""The states of a run that failed."""
Lines = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RunContext:
    """What is on record of a run, as far as alerts need it."""

    id: UUID
    job: str
    state: str
    message: str
    started_at: datetime
    ended_at: datetime | None
    host: str = ""
    parent: UUID | None = None
    rehearsal: bool = False
    step: str = ""
    """The step that failed first."""
    error: str = ""
    """The class of its error."""
    text: str = ""
    """What that says."""
    attempts: int = 0
    evidence: tuple[str, ...] = ()
    """The names of files that the run has left."""
    in_a_row: int = 1
    usual: timedelta | None = None
    before: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    runbook: str = ""
    check: tuple[str, ...] = ()

    def lines(self) -> Lines:
        """Return what an alert says of the run."""
        found = [("Job", self.job), ("Run", str(self.id))]
        if self.step:
            tried = f" (attempt {self.attempts})" if self.attempts > 1 else ""
            found.append(("Step", f"{self.step}{tried}"))
        found.append(("Began", f"{self.started_at:%Y-%m-%d %H:%M:%S %Z}"))
        if self.host:
            found.append(("Machine", self.host))
        if self.evidence:
            found.append(("Evidence", ", ".join(self.evidence)))
        return tuple(found)

    def finding(self, **fields: Any) -> Finding:
        """Return a finding about the run's job."""
        about = {
            "subject": self.job,
            "name": self.job,
            "labels": self.labels,
            "run_id": self.id,
            "child": self.parent is not None,
            "rehearsal": self.rehearsal,
            "runbook": self.runbook,
            "check": self.check,
        }
        return Finding(**{**about, **fields})


def of_run_end(run: RunContext, at: datetime) -> list[Finding]:
    """Return what the end of a run means: failure or success, and how long it took."""
    found: list[Finding] = []
    if run.state in FAILED or run.state == "completed":
        found.append(_failure(run, at))
    if run.state == "needs_decision":
        return [of_doubt(run, at)]
    found.append(run.finding(on="needs_decision", bad=False, at=at, subject=str(run.id)))
    if run.state == "completed" and run.ended_at is not None:
        found.append(of_duration(run, run.ended_at - run.started_at, at))
    return found


def _failure(run: RunContext, at: datetime) -> Finding:
    bad = run.state in FAILED
    what = "was cut off: its process died" if run.state == "crashed" else "failed"
    said = run.text or run.message
    lines = (("What happened", said), *run.lines()) if bad else run.lines()
    return run.finding(
        on="failure",
        bad=bad,
        at=at,
        title=f"{run.job} {what}{f' at step {run.step}' if run.step else ''}" if bad else "",
        lines=lines,
        step=run.step,
        error=run.error,
        in_a_row=run.in_a_row,
    )


def of_doubt(run: RunContext, at: datetime) -> Finding:
    """Return that a run waits for somebody to say what an effect of it did."""
    ask = f"smartops run decide {run.id} {run.step or 'STEP'} done|not-done|retry"
    return run.finding(
        on="needs_decision",
        bad=True,
        at=at,
        subject=str(run.id),
        title=f"{run.job} needs a decision{f' on step {run.step}' if run.step else ''}",
        lines=(("What happened", run.message), *run.lines(), ("Decide with", ask)),
        step=run.step,
    )


def of_going_on(run: RunContext, at: datetime) -> Finding:
    """Return that a run goes on which needed a decision."""
    return run.finding(on="needs_decision", bad=False, at=at, subject=str(run.id))


def of_duration(run: RunContext, duration: timedelta, at: datetime) -> Finding:
    """Return how long a run took, or has taken so far."""
    took = format_duration(timedelta(seconds=round(duration.total_seconds())))
    goes_on = run.ended_at is None
    usual = (("Usual", format_duration(run.usual)),) if run.usual is not None else ()
    return run.finding(
        on="slow",
        bad=True,
        at=at,
        title=f"{run.job} {'has been running for' if goes_on else 'took'} {took}",
        lines=(("Duration", took), *usual, *run.lines()),
        duration=duration,
        usual=run.usual,
        before=run.before,
    )


def of_slot(body: Mapping[str, Any], run: RunContext | None, about: RunContext) -> Finding | None:
    """Return what a time means at which a schedule should have fired; a skipped one nothing.

    ``about`` has what the job says of itself; ``run`` is the run of that time, where there is one.
    """
    due = datetime.fromisoformat(body["due_at"])
    lines: Lines = (("Job", body["job"]), ("Due", f"{due:%Y-%m-%d %H:%M:%S %Z}"))
    lines += (("Schedule", body["schedule"]),)
    if body["outcome"] == "missed":
        return about.finding(
            on="late",
            bad=True,
            at=due,
            title=f"{body['job']} did not run at {due:%H:%M %Z}",
            lines=(("Why", body["reason"]), *lines),
            run_id=NO_ID,
        )
    if body["outcome"] != "run" or run is None:
        return None
    delay = max(run.started_at - due, timedelta())
    late = format_duration(timedelta(seconds=round(delay.total_seconds())))
    return run.finding(
        on="late",
        bad=True,
        at=run.started_at,
        title=f"{run.job} started {late} late",
        lines=(*lines, ("Late by", late), ("Run", str(run.id))),
        delay=delay,
    )


def of_device(body: Mapping[str, Any], at: datetime, run_id: UUID) -> Finding:
    """Return that a device is left alone, or answers again."""
    what = f"{body['device']} ({body['part']})" if body["part"] else str(body["device"])
    alert = body.get("alert_id")
    lines: Lines = (("Device", what), ("Connection", str(body["resource"])))
    lines += (("Failures in a row", str(body["failures"])), ("Last", str(body["reason"])))
    if run_id != NO_ID:
        lines += (("Run", str(run_id)),)
    return Finding(
        on="quarantine",
        bad=body["state"] == "quarantined",
        subject=what,
        name=str(body["device"]),
        at=at,
        title=f"{what} does not answer, and is left alone for a while",
        lines=lines,
        run_id=run_id,
        alert_id=UUID(alert) if alert else None,
    )


_RESULTS = {"passed": "pass", "warned": "warn", "failed": "fail"}
"""What rules call the statuses that checks of data put on record."""


def of_quality(
    body: Mapping[str, Any], at: datetime, run_id: UUID, run: RunContext | None
) -> Finding:
    """Return what a check of data gave: a ``status`` of ``passed``, ``warned`` or ``failed``.

    ``run`` is the run that checked: what another job's rows meet says nothing of this one's.
    """
    suite = str(body.get("suite", ""))
    parts = [str(body[key]) for key in ("dataset", "expectation", "subject") if body.get(key)]
    what = " ".join(parts)
    status = _RESULTS.get(str(body.get("status", "")), "")
    counted = f"{body.get('bad_rows', 0)} of {body.get('checked_rows', 0)}"
    about = run or RunContext(run_id, "", "", "", at, None)
    whose = about.lines() if run is not None else (("Run", str(run_id)),)
    return about.finding(
        on="quality",
        bad=status in {"warn", "fail"},
        subject=_told_apart(" ".join(word for word in (about.job, suite, what) if word)),
        name=suite,
        at=at,
        title=f"Data of {suite}: {body.get('sentence') or what}",
        lines=(("Suite", suite), ("Check", what), ("Bad rows", counted), *whose),
        status=status,
    )


def _told_apart(text: str) -> str:
    """Return a subject that is not too long, and still no other's."""
    if len(text) <= _LONGEST_SUBJECT:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[: _LONGEST_SUBJECT - 17]} {digest}"


def of_verification(body: Mapping[str, Any], at: datetime) -> Finding:
    """Return what a verification of the record found."""
    by_run = body.get("by_run")
    return Finding(
        on="verification",
        bad=not body.get("ok"),
        subject="record",
        name="record",
        at=at,
        title="The audit record was altered",
        lines=(
            ("First that is wrong", str(body.get("first_bad"))),
            ("Verified", f"{body.get('events')} events of {body.get('runs')} runs"),
            ("Do first", "keep the database as it is, with its backups: they are the evidence"),
            ("Look with", "smartops audit verify --tables"),
        ),
        run_id=UUID(by_run) if by_run else NO_ID,
    )


def of_silence(about: RunContext, last: datetime | None, now: datetime, *, bad: bool) -> Finding:
    """Return that there was no run of a job for too long, or that there is one again."""
    seen = f"{last:%Y-%m-%d %H:%M:%S %Z}" if last else "never"
    return about.finding(
        on="silence",
        bad=bad,
        at=now,
        run_id=NO_ID,
        title=f"{about.job} has not run",
        lines=(("Job", about.job), ("Last run", seen)),
    )


@dataclass(frozen=True)
class Burn:
    """How fast an objective of a job uses up what may go wrong."""

    objective: str
    """Its name."""
    promise: str
    """It in words."""
    target: float
    bad: str
    """How much went wrong, such as ``5 of 20 runs``."""
    over: timedelta
    rate: float
    """1 uses up exactly what may go wrong."""


def of_burn(about: RunContext, burn: Burn, at: datetime, *, bad: bool) -> Finding:
    """Return how fast an objective burns, and whether that is too fast."""
    return about.finding(
        on="slo",
        bad=bad,
        at=at,
        run_id=NO_ID,
        subject=f"{about.job} {burn.objective}",
        title=f"{about.job}: {burn.objective} burns {burn.rate:.1f} times as fast as it may",
        lines=(
            ("Job", about.job),
            ("Objective", f"{burn.promise}, {burn.target:.5g}"),
            ("Went wrong", f"{burn.bad} in {format_duration(burn.over)}"),
            ("Look with", "smartops report slo -o slo.html"),
        ),
    )
