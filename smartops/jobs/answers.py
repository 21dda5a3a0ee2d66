"""What a person is asked while a run waits, and whether an answer counts. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from smartops.errors import BadInput
from smartops.jobs.kinds.approval import Approval
from smartops.jobs.param import fill_in

Verdict = Literal["done", "not-done", "retry"]
VERDICTS: tuple[Verdict, ...] = ("done", "not-done", "retry")
NOBODY = "nobody"
"""The person who is on record where the time was over."""


@dataclass(frozen=True)
class Answer:
    """A person's answer to an approval."""

    granted: bool
    person: str
    comment: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """What a person found out about an effect in doubt."""

    verdict: Verdict
    person: str
    comment: str = ""


def check_answer(step: Approval, answer: Answer, requested_by: str | None) -> Answer:
    """Return the answer with the form's values complete; raise BadInput if it does not count."""
    person = _plain(answer.person)
    if not person:
        raise BadInput("an answer needs the name of the person who gives it")
    if step.approvers and person not in map(_plain, step.approvers):
        raise BadInput(
            f"{answer.person} may not answer this; it is up to {', '.join(step.approvers)}"
        )
    if not step.requester_may_approve and person == _plain(requested_by or ""):
        raise BadInput(f"{answer.person} has started this run and may not approve it too")
    if not answer.granted:
        return answer
    return Answer(True, answer.person, answer.comment, _values(step, answer.values))


def _plain(name: str) -> str:
    """Return a person's name as it is compared: forms are filled in by hand."""
    return " ".join(name.split()).casefold()


def _values(step: Approval, given: Mapping[str, Any]) -> dict[str, Any]:
    return fill_in(step.form, given, "the form", "field")


def rehearsed_answer(step: Approval) -> Answer:
    """Return what counts as the answer in a rehearsal, which asks nobody: yes, with defaults."""
    values: dict[str, Any] = {}
    for name, param in step.form.items():
        plain: dict[str, Any] = {"string": "", "boolean": False, "integer": int(param.minimum or 0)}
        first = param.choices[0] if param.choices else plain.get(param.type, param.minimum or 0.0)
        values[name] = first if param.default is None else param.default
    return Answer(True, "rehearsal", "nobody is asked in a rehearsal", values)


def answer_of_nobody(step: Approval, asked_at: datetime, now: datetime) -> Answer | None:
    """Return what counts as the answer when the time is over; None as long as it is not."""
    if step.within is None or now < asked_at + step.within:
        return None
    values = _values(step, {}) if step.if_nobody == "grant" else {}
    return Answer(step.if_nobody == "grant", NOBODY, "nobody answered in time", values)
