"""The job report: one job over a period, or one run with its timeline, attempts and evidence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from reports import run_numbers, step_numbers
from reports.catalogue import Asked, ReportKind
from reports.document import (
    Cell,
    Column,
    Document,
    Figure,
    Lines,
    Section,
    Series,
    Span,
    Table,
    Timeline,
    table_of,
)
from reports.evidence import evidence_of
from reports.operations import FAILURES
from reports.period import Period
from reports.runs import RunDetail, get_run
from reports.wording import counted, duration
from smartops.audit import models
from smartops.audit.store import Store
from smartops.errors import BadInput

_MOST_RUNS = 2000


def build(store: Store, period: Period, asked: Asked) -> Document:
    """Return the report. Raises StoreUnavailable, BadInput."""
    if ("job" in asked) == ("run" in asked):
        raise BadInput("the job report is about a job or a run: give -p job=NAME or -p run=ID")
    if "run" in asked:
        return _of_run(store, get_run(store, asked["run"]), period.zone)
    return _of_job(store, asked["job"], period)


# --- one job ----------------------------------------------------------------------------------

_RUNS = (
    Column("started_at", "Started", "time"),
    Column("state", "State", "state"),
    Column("duration_s", "Took", "seconds"),
    Column("requested_by", "Asked for by"),
    Column("message", "Message"),
    Column("id", "Run", "id"),
)


def _of_job(store: Store, job: str, period: Period) -> Document:
    with store.snapshot() as connection:
        numbers = run_numbers.numbers_of(connection, period, job).get(job)
        before = run_numbers.numbers_of(connection, period.before, job).get(job)
        failures = [f for f in step_numbers.failures(connection, period) if f.job == job]
        rows = _runs(connection, job, period)
    numbers = numbers or run_numbers.JobNumbers()
    before = before or run_numbers.JobNumbers()
    figures = (
        Figure("runs", "Runs", numbers.runs, before=before.runs),
        Figure("success", "Success", numbers.success, "share", before.success, "more"),
        Figure("p50_s", "p50", numbers.quantile_s(0.5), "seconds", before.quantile_s(0.5), "less"),
        Figure(
            "p95_s", "p95", numbers.quantile_s(0.95), "seconds", before.quantile_s(0.95), "less"
        ),
        Figure("lost_s", "Time lost", numbers.lost_s, "seconds", before.lost_s, "less"),
        Figure("mttr_s", "MTTR", numbers.mttr_s, "seconds", before.mttr_s, "less"),
    )
    runs = Table("runs", "Runs", _RUNS, tuple(rows), empty="No run in this period.")
    failed = table_of("failures", "Failures", FAILURES, failures, empty="No step failed.")
    said = (f"{counted(numbers.runs, 'run')}, {numbers.bad} of them failed.",)
    sections = (Section("Runs", (*_took(rows), runs)), Section("Failures", (failed,)))
    return Document(REPORT.name, REPORT.title, period, said, figures, sections, job)


def _runs(connection: sa.Connection, job: str, period: Period) -> list[tuple[Any, ...]]:
    run = models.job_run
    query = (
        sa.select(run)
        .where(run.c.job == job, run.c.started_at >= period.start, run.c.started_at < period.end)
        .where(~run.c.rehearsal)
        .order_by(run.c.started_at.desc(), run.c.id.desc())
        .limit(_MOST_RUNS)
    )
    return [
        (
            row.started_at,
            row.state,
            (row.ended_at - row.started_at).total_seconds() if row.ended_at else None,
            row.requested_by or "",
            row.message.strip().partition("\n")[0][:300],
            str(row.id),
        )
        for row in connection.execute(query)
    ]


def _took(rows: Sequence[tuple[Any, ...]]) -> list[Lines]:
    """Return how long the last runs took, in their order."""
    last = list(reversed(rows[:200]))
    if len(last) < 2:
        return []
    labels = tuple(f"{row[0]:%m-%d %H:%M}" for row in last)
    series = Series("duration", tuple(row[2] for row in last))
    says = f"The last {len(last)} runs; the longest took {duration(max(r[2] or 0 for r in last))}."
    return [Lines("took", "Duration of the last runs", says, labels, (series,), "s")]


# --- one run ----------------------------------------------------------------------------------

_ATTEMPTS = (
    Column("step", "Step"),
    Column("kind", "Kind"),
    Column("attempt", "Attempt", "count"),
    Column("state", "State", "state"),
    Column("started_at", "Started", "time"),
    Column("took_s", "Took", "seconds"),
    Column("error", "Error"),
)
_COMMANDS = (
    Column("requested_at", "At", "time"),
    Column("device", "Device"),
    Column("tag", "Tag"),
    Column("before", "Before"),
    Column("requested", "Requested"),
    Column("after", "After"),
    Column("state", "State", "state"),
    Column("reason", "Reason"),
)
_PEOPLE = (
    Column("at", "At", "time"),
    Column("step", "Step"),
    Column("what", "What", "state"),
    Column("person", "By"),
    Column("comment", "Comment"),
)
_FILES = (
    Column("stored_at", "At", "time"),
    Column("name", "Name"),
    Column("media_type", "Kind"),
    Column("bytes", "Bytes", "count"),
    Column("sha256", "Hash", "id"),
    Column("place", "Place"),
)


def _of_run(store: Store, detail: RunDetail, zone: str) -> Document:
    run = detail.run
    step = models.step_run
    with store.reading() as connection:
        attempts = connection.execute(
            sa.select(step)
            .where(step.c.run_id == run.run_id)
            .order_by(step.c.started_at, step.c.id)
        ).all()
    files = evidence_of(store, run.run_id)
    known = [moment for row in attempts for moment in (row.started_at, row.ended_at) if moment]
    end = run.ended_at or max([run.started_at, *known])
    period = Period(run.started_at, max(end, run.started_at + timedelta(milliseconds=1)), zone)
    figures = (
        Figure("state", "State", run.state, "state"),
        Figure("duration_s", "Took", run.duration_s, "seconds"),
        Figure("steps", "Steps", len(detail.steps)),
        Figure("attempts", "Attempts", sum(row.state != "skipped" for row in attempts)),
        Figure("commands", "Device commands", len(detail.commands)),
    )
    said = [f"{run.job} was {run.state.replace('_', ' ')}, asked for by {run.requested_by or '?'}."]
    said += [run.message.strip().partition("\n")[0]] if run.message.strip() else []
    sections = (
        Section("Steps", (_timeline(attempts, run.started_at, period.end), _attempts(attempts))),
        Section("Device commands", (_commands(detail),)),
        Section("People", (_people(detail),)),
        Section("Evidence", (table_of("files", "Files", _FILES, files, empty="No files."),)),
    )
    facts = {"run": detail.run.as_json(), "events": detail.events}
    about = f"{run.job}, run {str(run.run_id)[:8]}"
    name, title = REPORT.name, REPORT.title
    return Document(name, title, period, tuple(said), figures, sections, about, facts=facts)


def _timeline(attempts: Sequence[sa.Row[Any]], start: datetime, end: datetime) -> Timeline:
    spans = tuple(
        Span(
            row.step,
            max((row.started_at - start).total_seconds(), 0.0),
            max(((row.ended_at or end) - start).total_seconds(), 0.0),
            row.state,
            f"{row.attempt}." if row.attempt > 1 else "",
        )
        for row in attempts
    )
    says = "; ".join(f"{s.row}: {s.state} after {duration(s.end_s - s.start_s)}" for s in spans)
    return Timeline("timeline", "Timeline", says or "No step began.", start, spans)


def _attempts(attempts: Sequence[sa.Row[Any]]) -> Table:
    rows = tuple(
        (
            row.step,
            row.kind,
            row.attempt,
            row.state,
            row.started_at,
            (row.ended_at - row.started_at).total_seconds() if row.ended_at else None,
            (row.error or "").strip()[:500],
        )
        for row in attempts
    )
    return Table("attempts", "Attempts", _ATTEMPTS, rows, empty="No step began.")


def _commands(detail: RunDetail) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for command in detail.commands:
        values = (command.before, command.requested, command.after)
        shown = [f"{value} {command.unit}".strip() for value in values]
        about = (command.requested_at, command.device, command.tag)
        rows.append((*about, *shown, command.state, command.reason))
    empty = "No command was sent to a device."
    return Table("commands", "Device commands", _COMMANDS, tuple(rows), empty=empty)


def _people(detail: RunDetail) -> Table:
    rows: list[tuple[Cell, ...]] = [
        *((a.at, a.step, a.state, a.person, a.comment) for a in detail.approvals),
        *((d.at, d.step, d.verdict, d.person, d.comment) for d in detail.decisions),
    ]
    rows.sort(key=lambda row: str(row[0]))
    empty = "Nobody was asked, and nobody decided anything."
    return Table("people", "Approvals and decisions", _PEOPLE, tuple(rows), empty=empty)


REPORT = ReportKind(
    "job",
    "Job report",
    "One job (-p job=NAME), or one run (-p run=ID): timeline, attempts, commands, evidence.",
    build,
    "week",
    {"job": "The job's name.", "run": "The run's id, or the first part of it."},
)
