"""Asks a person: the run leaves its process, and comes back in a new one with the answer.

The question is a form in the Prefect UI (Resume), and `smartops approve` or `smartops run decide`
send the same form.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.input.run_input import keyset_from_base_key
from pydantic import Field, ValidationError, create_model

from smartops.jobs.answers import VERDICTS, Answer, Decision
from smartops.jobs.kinds.approval import Approval
from smartops.jobs.param import Param

_PYTHON_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
}
_FORM = "value_"
"""Before the names of a form's own fields, so that they cannot be taken for ours."""


class ApprovalForm(RunInput):
    """The answer to an approval."""

    person: str = Field(title="Your name", description="It stands on record with the answer.")
    answer: Literal["grant", "deny"] = Field(title="Answer", description="Whether the run goes on.")
    comment: str = Field(default="", title="Comment", description="Why.")


class DecisionForm(RunInput):
    """What became of an effect in doubt."""

    person: str = Field(title="Your name", description="It stands on record with the decision.")
    verdict: Literal["done", "not-done", "retry"] = Field(
        title="What happened",
        description="done: the effect has happened; not-done: it has not, and the step has failed; "
        "retry: it has not, and the step is to be made again.",
    )
    comment: str = Field(default="", title="Comment", description="How you know.")


@dataclass(frozen=True)
class Question:
    """What is asked about a step; ``number`` counts the questions about the same step."""

    step: str
    number: int
    text: str
    form: type[RunInput]

    @property
    def key(self) -> str:
        """What Prefect knows the question by."""
        return f"{key_name(self.step)}-{self.number}"

    @property
    def response_key(self) -> str:
        """Where Prefect keeps the answer."""
        return keyset_from_base_key(f"suspended-{self.key}")["response"]


def key_name(step: str) -> str:
    """Return a step's name on record as it can be a part of an address."""
    return step.replace("[", "-").replace("]", "")


def approval_question(step: Approval, number: int, text: str) -> Question:
    """Return the question of an approval step, with the fields of its form."""
    who = f"\n\nMay answer: {', '.join(step.approvers)}." if step.approvers else ""
    return Question(step.id, number, text + who, _approval_form(step))


def as_text(step: Approval, question: Question) -> str:
    """Return a question as the JSON text that stands on record, for those who answer it there."""
    asked = {
        "step": step.id,
        "text": question.text,
        "approvers": list(step.approvers),
        "requester_may_approve": step.requester_may_approve,
        "form": {name: param.model_dump(mode="json") for name, param in step.form.items()},
        "within_s": step.within.total_seconds() if step.within else None,
        "if_nobody": step.if_nobody,
    }
    return json.dumps(asked, ensure_ascii=False)


def _approval_form(step: Approval) -> type[ApprovalForm]:
    fields: dict[str, Any] = {}
    for name, param in step.form.items():
        options: dict[str, Any] = {"title": name, "description": param.description}
        default = ... if param.default is None else param.default
        fields[_FORM + name] = (_type_of(param), Field(default=default, **options))
    return create_model("ApprovalForm", __base__=ApprovalForm, **fields)


def _type_of(param: Param) -> Any:
    return Literal[param.choices] if param.choices else _PYTHON_TYPES[param.type]


def answer_of(response: dict[str, Any]) -> Answer:
    """Return the answer that a filled-in approval form holds."""
    values = {
        name.removeprefix(_FORM): value
        for name, value in response.items()
        if name.startswith(_FORM)
    }
    granted = response.get("answer") == "grant"
    return Answer(granted, str(response.get("person", "")), response.get("comment") or "", values)


def response_to(answer: Answer) -> dict[str, Any]:
    """Return an answer as a filled-in form."""
    values = {_FORM + name: value for name, value in answer.values.items()}
    word = "grant" if answer.granted else "deny"
    return {"person": answer.person, "answer": word, "comment": answer.comment, **values}


def decision_question(step: str, number: int, evidence: str) -> Question:
    """Return the question of a step whose effect may or may not have happened."""
    text = (
        f"Step {step} needs a decision: {evidence}\n\nLook at what it touches, and say what "
        "happened. Nothing is repeated before you do."
    )
    return Question(step, number, text, DecisionForm)


def decision_of(response: dict[str, Any]) -> Decision | None:
    """Return the decision that a filled-in form holds, None where it holds none."""
    verdict, person = response.get("verdict"), str(response.get("person", "")).strip()
    if verdict not in VERDICTS or not person:
        return None
    return Decision(verdict, person, response.get("comment") or "")


async def read_response(run_id: UUID, question: Question) -> dict[str, Any] | None:
    """Return what was filled in, None where nothing was."""
    async with get_client() as client:
        try:
            content = await client.read_flow_run_input(run_id, question.response_key)
        except (ObjectNotFound, PrefectHTTPStatusError) as error:
            if (
                isinstance(error, ObjectNotFound)
                or error.response.status_code == HTTPStatus.NOT_FOUND
            ):
                return None
            raise
    found = json.loads(content) if content else None
    return found if isinstance(found, dict) else None


async def wait_in_prefect(question: Question) -> None:
    """Suspend this run until the question is answered; it raises Prefect's ``Pause``."""
    form = question.form.with_initial_data(description=question.text)
    suspending: Any = suspend_flow_run(wait_for_input=form, key=question.key)
    with contextlib.suppress(ValidationError):  # somebody let it go on without a filled-in form
        await suspending
