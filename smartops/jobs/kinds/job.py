"""``job``: a run of another job, as a step of this one."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from smartops.durations import Duration, duration_field
from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase


@register
class ChildJob(StepBase):
    """Run another deployed job, and wait for its end."""

    model_config = ConfigDict(title="Job")

    kind: Literal["job"] = "job"
    job: str = Field(min_length=1, title="Job", description="Name of the deployed job to run.")
    params: dict[str, Any] = Field(
        default_factory=dict, title="Parameters", description="Values of its parameters, by name."
    )
    timeout: Duration = duration_field(
        "1h",
        title="Time limit",
        description="The longest that the run may take; it is cancelled then.",
    )

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return which run it was."""
        return f"{output['job']} {output['state']}, run {output['run_id'][:8]}"
