"""Steps that ask a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from smartops.errors import ApprovalDenied
from smartops.jobs.answers import Answer
from smartops.jobs.param import Param
from smartops.vocabulary import Effect
from tasks.step import step

given_answer: ContextVar[Answer | None] = ContextVar("smartops_answer", default=None)
"""The answer to the question that the step which runs here has asked."""
approved_by: ContextVar[str] = ContextVar("smartops_approved_by", default="")
"""Who has approved what the step that runs here does: the persons of the approvals before it."""


@step(effect=Effect.READ, kind="approval")
async def approval(
    text: str,
    approvers: Sequence[str] = (),
    requester_may_approve: bool = True,
    form: Mapping[str, Param] | None = None,
    within: timedelta | None = None,
    if_nobody: str = "deny",
) -> dict[str, Any]:
    """Take the answer that was given; the run has waited for it before this is called.

    Returns ``person``, ``comment`` and ``values``. Raises ApprovalDenied.
    """
    del text, approvers, requester_may_approve, form, within, if_nobody  # on record as its inputs
    answer = given_answer.get()
    if answer is None:
        raise RuntimeError("an approval is a step of a job, not of a Python flow")
    if not answer.granted:
        comment = f": {answer.comment}" if answer.comment else ""
        raise ApprovalDenied(f"{answer.person} said no{comment}")
    return {"person": answer.person, "comment": answer.comment, "values": dict(answer.values)}
