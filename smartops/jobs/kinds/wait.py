"""``wait``: let time pass."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from smartops.durations import Duration, format_duration
from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase, suggest


@register
class Wait(StepBase):
    """Wait for a while."""

    model_config = ConfigDict(title="Wait")

    kind: Literal["wait"] = "wait"
    duration: Duration = Field(
        title="Duration",
        description="How long to wait, such as 5s.",
        json_schema_extra=suggest("5s"),
    )

    @model_validator(mode="after")
    def _can_succeed(self) -> Self:
        if self.duration >= self.timeout:
            limit = format_duration(self.timeout)
            raise ValueError(f"the time limit of {limit} would end the wait; set a longer timeout")
        return self

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return how long it waited."""
        return f"waited {output['waited_s']:g} s"
