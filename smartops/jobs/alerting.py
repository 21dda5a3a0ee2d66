"""What a job says for the person whom an alert about it reaches."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from smartops.vocabulary import Strict, blank_in_form

LabelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=64)]


class Alert(Strict):
    """What to do when the job fails, and the labels by which its alerts find their way."""

    runbook: str = Field(
        default="",
        max_length=10_000,
        title="Runbook",
        description="What to do, in words or as the address of a page; it stands in the alert.",
    )
    check: tuple[Annotated[str, Field(min_length=1, max_length=500)], ...] = Field(
        default=(),
        max_length=20,
        title="What to check",
        description="What to look at first, in this order; it stands in the alert.",
    )
    labels: dict[LabelName, Annotated[str, Field(max_length=100)]] = Field(
        default_factory=dict,
        title="Labels",
        description="Words by which rules and routes of alerts choose, such as line: filling.",
        json_schema_extra=blank_in_form,
    )
