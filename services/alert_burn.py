"""Looks at how fast the objectives of jobs burn: the same numbers that the SLO report has."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from reports import objectives, slo
from reports.objectives import Objective, Objectives
from reports.period import Period
from reports.slo import Kept
from services.alert_findings import Contexts
from services.changed_files import State, state_of
from smartops.alerts import findings as of
from smartops.alerts.finding import Finding
from smartops.alerts.findings import Burn
from smartops.alerts.rules import OnSlo
from smartops.audit.alert_book import Page
from smartops.durations import format_duration
from smartops.errors import BadInput

logger = logging.getLogger("services.alerter")


class Promises:
    """The objectives of jobs as the files say; read again when one of them has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: State | None = None
        self._known: list[Objectives] = []

    def now(self) -> list[Objectives]:
        """Return them; when they cannot be read, what they said before holds."""
        state = state_of(self._folder)
        if state != self._seen:
            self._seen = state
            try:
                self._known = objectives.load_all(self._folder)
            except BadInput as error:
                logger.error("%s; what it said before holds", error.one_line)  # noqa: TRY400
        return self._known


def burning(
    page: Page,
    contexts: Contexts,
    rule: OnSlo,
    promises: list[Objectives],
    since: datetime,
    now: datetime,
) -> Iterator[Finding]:
    """Yield for each objective that a rule is about whether it burns too fast.

    ``since`` is when alerts were switched on: a job that never ran is to be fresh from then.
    """
    period = Period(now - rule.over, now)
    for of_job in promises:
        for promise in of_job.objectives:
            if rule.wants(of_job.job, promise.called):
                kept = slo.kept(page, of_job.job, promise, period, since)
                rate = kept.spent(promise.target)
                enough = promise.kind == "freshness" or kept.good + kept.bad >= rule.least_runs
                burn = Burn(
                    promise.called,
                    promise.text,
                    promise.target,
                    _in_words(promise, kept),
                    rule.over,
                    rate,
                )
                about = contexts.job(of_job.job, now)
                yield of.of_burn(about, burn, now, bad=enough and rate >= rule.burn)


def _in_words(promise: Objective, kept: Kept) -> str:
    if promise.kind == "freshness":
        return format_duration(timedelta(seconds=round(kept.bad)))
    return f"{kept.bad:.0f} of {kept.good + kept.bad:.0f} runs"
