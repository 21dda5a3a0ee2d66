"""Turns facts of the outbox into findings, with what is on record about their runs."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from smartops.alerts import findings as of
from smartops.alerts.finding import NO_ID, Finding
from smartops.alerts.findings import FAILED, RunContext
from smartops.alerts.policy import Policy
from smartops.alerts.rules import OnFailure, OnSlow
from smartops.audit import alert_context
from smartops.audit.alert_book import Fact, Page
from smartops.audit.alert_context import RunOnRecord

logger = logging.getLogger("services.alerter")


class Contexts:
    """What is on record about the runs and jobs that some facts are about."""

    def __init__(self, page: Page, policy: Policy) -> None:
        self._page = page
        rules = policy.rules
        self._row = max((r.in_a_row for r in rules if isinstance(r, OnFailure)), default=1)
        self._usual = any(isinstance(r, OnSlow) and r.times_usual is not None for r in rules)
        self._runs: dict[UUID, RunOnRecord] = {}
        self._parts: dict[str, Any] = {}

    def look_up(self, ids: set[UUID]) -> None:
        """Read the runs that will be asked for."""
        self._runs |= alert_context.runs_on_record(self._page, ids - {NO_ID})
        self._learn(list(self._runs.values()))

    def running(self) -> list[RunContext]:
        """Return the runs that are under way."""
        runs = alert_context.running_runs(self._page)
        self._learn(runs)
        return [self._context(run) for run in runs]

    def _learn(self, runs: Sequence[RunOnRecord]) -> None:
        revisions = {run.revision for run in runs} - self._parts.keys()
        self._parts |= alert_context.alert_parts(self._page, revisions)

    def run(self, run_id: UUID) -> RunContext | None:
        """Return a run that was looked up, None where it is not on record."""
        found = self._runs.get(run_id)
        return None if found is None else self._context(found)

    def _context(self, run: RunOnRecord) -> RunContext:
        in_a_row, usual, before = 1, None, 0
        if self._row > 1 and run.state in FAILED and run.ended_at is not None:
            in_a_row = alert_context.failures_in_a_row(self._page, run.job, run.ended_at, self._row)
        if self._usual and run.state in {"running", "completed"}:
            usual, before = alert_context.usual_duration(self._page, run.job, run.started_at)
        values = {name: value for name, value in vars(run).items() if name != "revision"}
        values |= {"evidence": tuple(run.evidence), **_said(self._parts.get(run.revision or ""))}
        return RunContext(**values, in_a_row=in_a_row, usual=usual, before=before)

    def job(self, name: str, now: datetime) -> RunContext:
        """Return what is known of a job where it is not about a run."""
        part = alert_context.newest_alert_part(self._page, name)
        return RunContext(NO_ID, name, "", "", now, None, **_said(part))


def _said(part: dict[str, Any] | None) -> dict[str, Any]:
    """Return what a job says for its alerts."""
    part = part or {}
    return {
        "labels": part.get("labels", {}),
        "runbook": part.get("runbook", ""),
        "check": tuple(part.get("check", ())),
    }


def findings_of(
    page: Page, policy: Policy, facts: Sequence[Fact]
) -> Iterator[tuple[Fact, list[Finding], str]]:
    """Yield what each fact means, in their order; and why, where it cannot be understood.

    One that is not of the shape that it should have must not hold up the others.
    """
    contexts = Contexts(page, policy)
    contexts.look_up({fact.run_id for fact in facts} | {_run_of_slot(fact) for fact in facts})
    for fact in facts:
        try:
            yield fact, _findings(fact, contexts), ""
        except (LookupError, ValueError, TypeError) as error:
            why = f"a fact of kind {fact.kind} cannot be understood: {type(error).__name__} {error}"
            logger.warning("%s: %s", fact.id, why)
            yield fact, [], why


def _run_of_slot(fact: Fact) -> UUID:
    run_id = fact.body.get("slot_run_id") if fact.kind == "slot" else None
    try:
        return UUID(run_id) if run_id else NO_ID
    except (ValueError, AttributeError):
        return NO_ID


def _findings(fact: Fact, contexts: Contexts) -> list[Finding]:
    match fact.kind:
        case "device":
            return [of.of_device(fact.body, fact.at, fact.run_id)]
        case "quality":
            run = contexts.run(fact.run_id)
            return [of.of_quality(fact.body, fact.at, fact.run_id, run)]
        case "verified":
            return [of.of_verification(fact.body, fact.at)]
        case "slot":
            about = contexts.job(fact.body["job"], fact.at)
            late = of.of_slot(fact.body, contexts.run(_run_of_slot(fact)), about)
            return [late] if late is not None else []
        case _:
            run = contexts.run(fact.run_id)
            return [] if run is None else _of_run(fact, run)


def _of_run(fact: Fact, run: RunContext) -> list[Finding]:
    if fact.kind == "resumed":
        return [of.of_going_on(run, fact.at)]
    if run.state != fact.body.get("state"):
        return []  # it was tried again since, or its own process knew better
    return [of.of_doubt(run, fact.at)] if fact.kind == "waits" else of.of_run_end(run, fact.at)
