"""Looks at what no event tells: runs that take long, jobs that do not run, objectives that burn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from services.alert_burn import Promises, burning
from services.alert_findings import Contexts
from smartops.alerts import findings as of
from smartops.alerts.finding import Finding
from smartops.alerts.policy import Policy
from smartops.alerts.rules import OnSilence, OnSlo, OnSlow, Rule, fits
from smartops.audit import alert_context
from smartops.audit.alert_book import Episode, Page
from smartops.settings import get_settings

_SELDOM = timedelta(seconds=60)
"""How often is looked at what counts over hours."""
_WILD = frozenset("*?[")


class Watch:
    """Looks again and again; what is known to be wrong is not told once more."""

    def __init__(self, policy: Policy) -> None:
        self._rules = policy.rules
        self._promises = Promises(get_settings().deployments / "slo")
        self._seldom_at: datetime | None = None

    def look(
        self,
        page: Page,
        contexts: Contexts,
        opened: Mapping[str, Episode],
        since: datetime,
        now: datetime,
    ) -> Iterator[tuple[Finding, Rule]]:
        """Yield what is wrong, and what is well again, each for the rule that looked.

        ``since`` is when alerts were switched on: a job that never ran is silent from then.
        """
        yield from self._long(contexts, now)
        if self._seldom_at is not None and now < self._seldom_at:
            return
        self._seldom_at = now + _SELDOM
        opened_by = {(episode.rule, episode.subject) for episode in opened.values()}
        for rule in self._rules:
            if isinstance(rule, OnSilence):
                found = self._silent(page, contexts, rule, since, now)
            elif isinstance(rule, OnSlo):
                found = self._burning(page, contexts, rule, opened, since, now)
            else:
                continue
            for finding in found:
                if finding.bad != ((rule.name, finding.subject) in opened_by):
                    yield finding, rule

    def _long(self, contexts: Contexts, now: datetime) -> Iterator[tuple[Finding, Rule]]:
        rules = [rule for rule in self._rules if isinstance(rule, OnSlow)]
        for run in contexts.running() if rules else ():
            finding = of.of_duration(run, now - run.started_at, now)
            for rule in rules:
                if rule.covers(finding) and rule.means(finding) == "bad":
                    yield finding, rule

    @staticmethod
    def _jobs(page: Page, rule: OnSilence) -> list[str]:
        """Return the jobs that a rule is about: those that it names, and known ones that fit."""
        named = {name for name in rule.jobs if not _WILD & set(name)}
        patterns = [name for name in rule.jobs if name not in named]
        known = alert_context.known_jobs(page) if patterns else []
        fitting = {job for job in known if fits(job, patterns)}
        return sorted(named | fitting)

    def _silent(
        self, page: Page, contexts: Contexts, rule: OnSilence, since: datetime, now: datetime
    ) -> Iterator[Finding]:
        jobs = self._jobs(page, rule)
        last = alert_context.last_runs(page, jobs, any_end=rule.any_end)
        for job in jobs:
            silent = now - max(last.get(job, since), since) > rule.within
            yield of.of_silence(contexts.job(job, now), last.get(job), now, bad=silent)

    def _burning(
        self,
        page: Page,
        contexts: Contexts,
        rule: OnSlo,
        opened: Mapping[str, Episode],
        since: datetime,
        now: datetime,
    ) -> Iterator[Finding]:
        left = {e.subject: e.details["name"] for e in opened.values() if e.rule == rule.name}
        for finding in burning(page, contexts, rule, self._promises.now(), since, now):
            left.pop(finding.subject, None)
            yield finding
        for subject, job in left.items():  # what is not promised any more cannot burn
            yield contexts.job(job, now).finding(on="slo", bad=False, at=now, subject=subject)
