"""``assert``: compare values, and fail with a sentence that names them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat

from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase, suggest
from smartops.vocabulary import Strict

Scalar = bool | int | FiniteFloat | str | None
Operator = Literal["==", "!=", "<", "<=", ">", ">="]


class Check(Strict):
    """One comparison."""

    left: Scalar = Field(
        title="Left",
        description="The value to check, mostly an expression such as {{ steps.level.value }}.",
    )
    op: Operator = Field(default="==", title="Comparison", description="How the two must compare.")
    right: Scalar = Field(title="Right", description="What to compare it with.")
    message: str = Field(
        default="",
        max_length=500,
        title="Message",
        description="What it means when this does not hold, for the person who reads the alert.",
    )


@register
class Assert(StepBase):
    """Check values; every check that does not hold is named in the error."""

    model_config = ConfigDict(title="Assert")

    kind: Literal["assert"] = "assert"
    checks: tuple[Check, ...] = Field(
        min_length=1,
        title="Checks",
        description="What must hold; all are looked at.",
        json_schema_extra=suggest([]),
    )

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return how many checks held."""
        count = len(output["held"])
        return f"{count} check{'s' if count != 1 else ''} held"
