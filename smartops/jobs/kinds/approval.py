"""``approval``: a person says whether the run goes on."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from smartops.durations import Duration
from smartops.jobs.kinds import register
from smartops.jobs.param import Param, ParamName
from smartops.jobs.step import StepBase, suggest

_NO_MEANING = frozenset(
    {"retry", "timeout", "effect", "foreach", "max_parallel", "undo", "locks", "always"}
)


@register
class Approval(StepBase):
    """Ask a person, and go on when the answer is yes."""

    model_config = ConfigDict(title="Approval")

    kind: Literal["approval"] = "approval"
    text: str = Field(
        min_length=1,
        max_length=4000,
        title="Text",
        description="What is asked, with expressions: May {{ params.line }} run faster.",
        json_schema_extra=suggest(""),
    )
    approvers: tuple[str, ...] = Field(
        default=(), title="Approvers", description="Who may answer, by name. Empty: anybody."
    )
    requester_may_approve: bool = Field(
        default=True,
        title="Requester may approve",
        description="Whether the person who started the run may approve it.",
    )
    form: dict[ParamName, Param] = Field(
        default_factory=dict,
        title="Form",
        description="Values that the person gives with the answer, used as "
        "{{ steps.id.values.name }}.",
    )
    within: Duration | None = Field(
        default=None, title="Within", description="How long to wait for an answer. Empty: for ever."
    )
    if_nobody: Literal["deny", "grant"] = Field(
        default="deny",
        title="If nobody answers",
        description="What counts as the answer when the time is over.",
    )

    @model_validator(mode="after")
    def _no_settings_without_effect(self) -> Self:
        for name in sorted(self.changed() & _NO_MEANING):
            hint = "; `within` limits its time" if name == "timeout" else ""
            raise ValueError(f"{name} has no meaning for an approval{hint}")
        if self.within is not None and not self.within:
            raise ValueError("within must be longer than 0s")
        if self.if_nobody == "grant" and any(p.default is None for p in self.form.values()):
            raise ValueError("if nobody answers, the form's values need defaults")
        return self

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return who approved it."""
        comment = f": {output['comment']}" if output["comment"] else ""
        return f"granted by {output['person']}{comment}"
