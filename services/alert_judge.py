"""Judges facts by the rules: opens alerts, counts, ends and escalates them; one transaction each.

What is to be said is written down together with what was decided. Sending it is another's work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from uuid6 import uuid7

from services.alert_findings import Contexts, findings_of
from services.alert_watch import Watch
from smartops.alerts.finding import Finding
from smartops.alerts.judging import Known, Mute, judge, subject_of
from smartops.alerts.policy import Policy
from smartops.alerts.routing import (
    NOBODY,
    Standing,
    Subject,
    channels_of,
    group_key,
    next_step,
    routes_for,
)
from smartops.alerts.rules import Rule, Severity, fingerprint
from smartops.audit import alert_book as book
from smartops.audit.alert_book import Episode, Fact, NewMessage, Outcome, Page
from smartops.audit.events import NO_RUN
from smartops.audit.store import Store

_AT_ONCE = 500
_WATCH_EVERY = timedelta(seconds=5)
_TELL_AGAIN = timedelta(hours=1)
_RULE_GONE = "its rule is not there any more"
_OTHER_RULE = "its rule is about other things now"


class Judge:
    """Judges what is new, again and again. Several may work at once: they take turns."""

    def __init__(self, store: Store, policy: Policy) -> None:
        self._store = store
        self._policy = policy
        self._watch = Watch(policy)
        self._watch_at: datetime | None = None
        self._held: set[tuple[str, str, str]] = set()
        self._forget_at: datetime | None = None

    def judge(self, now: datetime, *, watch: bool | None = None) -> int:
        """Judge what waits in the outbox, and look at what has no event; return how many facts.

        ``watch`` says whether to look; None: when it is time again. Raises StoreUnavailable.
        """
        due = self._watch_at is None or now >= self._watch_at
        look = due if watch is None else watch
        count = 0
        self._forget_held(now)
        while look or self._has_facts():
            with self._store.transaction() as page:
                since = book.alone(page, now)
                facts = book.facts(page, _AT_ONCE)
                chapter = _Chapter(page, self._policy, now)
                for fact, findings, problem in findings_of(page, self._policy, facts):
                    chapter.take_all(fact, findings, problem)
                if look:
                    contexts = Contexts(page, self._policy)
                    for finding, rule in self._watch.look(page, contexts, chapter.open, since, now):
                        chapter.take(finding, rule, self._held)
                    chapter.go_on()
                book.forget(page, facts)
                chapter.write()
            if look:
                self._watch_at, look = now + _WATCH_EVERY, False
            count += len(facts)
        return count

    def _forget_held(self, now: datetime) -> None:
        """Let what is held back for long be told as held once more, each hour."""
        if self._forget_at is None or now >= self._forget_at:
            self._held.clear()
            self._forget_at = now + _TELL_AGAIN

    def _has_facts(self) -> bool:
        with self._store.reading() as page:
            return bool(book.facts(page, 1))


class _Chapter:
    """What is decided in one transaction."""

    def __init__(self, page: Page, policy: Policy, now: datetime) -> None:
        self._page, self._policy, self._now = page, policy, now
        self.open = {episode.fingerprint: episode for episode in book.open_episodes(page)}
        self._known = {episode.id for episode in self.open.values()}
        self._before = dict(self.open)
        self._ended: list[Episode] = []
        self._messages: list[NewMessage] = []
        self._outcomes: list[Outcome] = []
        self._new: dict[UUID, tuple[str, bool]] = {}
        self._mutes = [
            Mute(mute.target, mute.until, mute.person, mute.comment)
            for mute in book.mutes(page, now)
        ]
        self._told = book.told_channels(page, self._known)

    # --- findings -------------------------------------------------------------------------------

    def take_all(self, fact: Fact, findings: Iterable[Finding], problem: str) -> None:
        """Judge what a fact means; one that cannot be understood is on record as such."""
        for finding in findings:
            self.take(finding)
        if problem:
            self._not_sent("", problem, fact.run_id)

    def take(
        self,
        finding: Finding,
        only: Rule | None = None,
        held: set[tuple[str, str, str]] | None = None,
    ) -> None:
        """Judge a finding by the rules that cover it, or by one of them.

        ``held`` has the decisions not to send that need not be written down again and again.
        """
        for rule in self._policy.rules if only is None else (only,):
            if rule.covers(finding):
                self._take(rule, finding, set() if held is None else held)

    def _take(self, rule: Rule, finding: Finding, held: set[tuple[str, str, str]]) -> None:
        mark = fingerprint(rule, finding)
        episode = self.open.get(mark)
        known = Known(episode.id, episode.count, episode.last_run_id) if episode else None
        verdict = judge(rule, finding, known, policy=self._policy, mutes=self._mutes, now=self._now)
        match verdict.do:
            case "raise":
                self._raise(rule, finding, mark)
            case "count" if episode is not None:
                self.open[mark] = replace(
                    episode,
                    count=episode.count + 1,
                    last_at=max(episode.last_at, finding.at),
                    last_run_id=finding.run_id,
                )
                self._not_sent(rule.name, verdict.reason, finding.run_id, episode.id)
            case "hold" if (rule.name, finding.subject, verdict.reason) not in held:
                held.add((rule.name, finding.subject, verdict.reason))
                self._not_sent(rule.name, verdict.reason, finding.run_id)
            case "end":
                self._end_all(rule, finding)

    def _raise(self, rule: Rule, finding: Finding, mark: str) -> None:
        subject = subject_of(rule, finding)
        routes = routes_for(self._policy, subject, self._now)
        stated = None if finding.alert_id in self._new else finding.alert_id
        episode = Episode(
            id=uuid7() if stated is None else stated,
            fingerprint=mark,
            rule=rule.name,
            subject=finding.subject,
            severity=rule.severity,
            state="open",
            run_id=finding.run_id,
            last_run_id=finding.run_id,
            title=finding.title,
            details={
                "name": finding.name,
                "labels": dict(finding.labels),
                "lines": [list(line) for line in finding.lines],
                "runbook": finding.runbook,
                "check": list(finding.check),
            },
            routes=[route.name for route in routes],
            count=1,
            level=0,
            raised_at=self._now,
            last_at=finding.at,
            said_at=self._now,
            ended_at=None,
        )
        self.open[mark] = episode
        text = "\n".join(f"{word}: {said}" for word, said in finding.lines)
        self._new[episode.id] = (text, stated is not None)
        for route in routes:
            channels = channels_of(self._policy, route.channels, route.on_call, self._now)
            due = self._now + route.wait
            self._say(episode, "raised", channels, f"{group_key(route, subject)} raised", due)
        if not self._told.get(episode.id):
            self._not_sent(rule.name, NOBODY, finding.run_id, episode.id)

    def _end_all(self, rule: Rule, finding: Finding) -> None:
        for mark, episode in list(self.open.items()):
            same = (episode.rule, episode.subject) == (rule.name, finding.subject)
            if same and finding.at >= episode.last_at:
                self._end(mark, episode, "" if rule.recovery else "the rule has recovery: false")

    def _end(self, mark: str, episode: Episode, silent: str) -> None:
        """Close an alert; ``silent`` says why nobody is told."""
        ended = replace(self.open.pop(mark), state="ended", ended_at=self._now)
        self._ended.append(ended)
        silent = silent or self._muted(episode)
        told = self._told.get(episode.id, [])
        if silent or not told:
            reason = silent or "nobody was told that it began"
            self._not_sent(episode.rule, f"recovered: {reason}", episode.run_id, episode.id)
            return
        self._say(ended, "recovered", told, "recovered", self._now)

    def _muted(self, episode: Episode) -> str:
        subject = self._subject(episode)
        return next((m.reason for m in self._mutes if m.covers(subject, self._now)), "")

    @staticmethod
    def _subject(episode: Episode) -> Subject:
        severity: Severity = episode.severity  # type: ignore[assignment]
        details = episode.details
        return Subject(episode.rule, severity, details["name"], details["labels"])

    # --- what stays open ------------------------------------------------------------------------

    def go_on(self) -> None:
        """Escalate and repeat what nobody has acknowledged; close what no rule is about."""
        acknowledged = book.acknowledged(self._page, self._known)
        rules = {rule.name: rule for rule in self._policy.rules}
        for mark, episode in list(self.open.items()):
            rule = rules.get(episode.rule)
            if rule is None:
                self._end(mark, episode, _RULE_GONE)
            elif not rule.covers(_found(rule, episode)):
                self._end(mark, episode, _OTHER_RULE)
            elif episode.id in self._known:
                self._next(mark, episode, acknowledged=episode.id in acknowledged)

    def _next(self, mark: str, episode: Episode, *, acknowledged: bool) -> None:
        said_at = episode.said_at or episode.raised_at
        standing = Standing(episode.raised_at, said_at, episode.level, acknowledged)
        step = next_step(self._policy, episode.routes, standing, self._now)
        if step is None:
            return
        self.open[mark] = replace(episode, level=step.level, said_at=self._now)
        reason = self._muted(episode) or ("" if step.channels else NOBODY)
        if reason:
            self._not_sent(episode.rule, f"{step.kind}: {reason}", episode.run_id, episode.id)
            return
        key = f"{group_key(step.route, self._subject(episode))} {step.kind}"
        self._say(episode, step.kind, step.channels, key, self._now)

    # --- writing it down ------------------------------------------------------------------------

    def _say(
        self,
        episode: Episode,
        kind: str,
        channels: Iterable[str],
        key: str,
        due: datetime,
    ) -> None:
        told = self._told.setdefault(episode.id, [])
        for channel in list(channels):
            if kind == "raised" and channel in told:
                continue  # two routes may name one channel
            if channel not in self._policy.channels:
                reason = f"{kind}: there is no channel {channel} any more"
                self._not_sent(episode.rule, reason, episode.run_id, episode.id)
                continue
            self._messages.append(NewMessage(episode.id, channel, kind, key[:255], due))
            if channel not in told:
                told.append(channel)

    def _not_sent(self, rule: str, reason: str, run_id: UUID, alert_id: UUID | None = None) -> None:
        known = alert_id or NO_RUN
        self._outcomes.append(
            Outcome(known, "not_sent", reason, self._now, rule=rule, run_id=run_id)
        )

    def write(self) -> None:
        """Write everything."""
        for episode in (*self.open.values(), *self._ended):
            if (raised := self._new.get(episode.id)) is not None:
                book.raise_alert(self._page, episode, raised[0], stated=raised[1])
            elif episode is not self._before.get(episode.fingerprint):
                self._change(episode)
        book.say(self._page, self._messages, self._now)
        book.put_on_record(self._page, self._outcomes)

    def _change(self, episode: Episode) -> None:
        names = ("state", "last_run_id", "count", "level", "last_at", "said_at", "ended_at")
        book.change_episode(
            self._page, episode.id, **{name: getattr(episode, name) for name in names}
        )


def _found(rule: Rule, episode: Episode) -> Finding:
    """Return what an alert was raised for, as far as rules choose by it."""
    details = episode.details
    return Finding(
        rule.on,
        bad=True,
        subject=episode.subject,
        at=episode.last_at,
        name=details["name"],
        labels=details["labels"],
    )
