"""``check.quality``: compare rows with what is expected of them, and keep bad ones apart."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, field_validator, model_validator

from smartops.durations import Duration, duration_field
from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase, suggest

SUITE_PATTERN = r"^[a-z0-9][a-z0-9-]*$"


@register
class CheckQuality(StepBase):
    """Check rows against a suite of expectations; bad rows are kept apart."""

    model_config = ConfigDict(title="Check quality")

    kind: Literal["check.quality"] = "check.quality"
    suite: str = Field(
        pattern=SUITE_PATTERN,
        max_length=100,
        title="Suite",
        description="Name of a file in deployments/quality, without .yaml.",
        json_schema_extra=suggest(""),
    )
    rows: str | tuple[JsonValue, ...] | dict[str, JsonValue] | None = Field(
        default=None,
        title="Rows",
        description="The rows to check, mostly what an earlier step gave, such as "
        "{{ steps.read.readings }}. Empty: the suite has queries on the audit store.",
    )
    look_back: Duration = duration_field(
        "2d",
        title="Look back",
        description="How far back the suite's queries look.",
    )

    @field_validator("rows")
    @classmethod
    def _rows(cls, value: Any) -> Any:
        if isinstance(value, str) and "{{" not in value:
            raise ValueError("a list is wanted, or an expression such as {{ steps.read.readings }}")
        return value

    @model_validator(mode="after")
    def _looks_back(self) -> Self:
        if self.look_back < timedelta(minutes=1):
            raise ValueError("look_back must be 1m or longer")
        return self

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return how the rows were."""
        kept = f", {output['quarantined']} kept apart" if output["quarantined"] else ""
        return f"{output['status']}: {output['rows']} rows{kept}"
