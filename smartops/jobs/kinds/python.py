"""``python.call``: a function of one's own, for what no other step kind does."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase, shorten

FUNCTION_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$"


@register
class PythonCall(StepBase):
    """Call a function of your own Python package, in a process of its own."""

    model_config = ConfigDict(title="Python call")

    kind: Literal["python.call"] = "python.call"
    function: str = Field(
        pattern=FUNCTION_PATTERN,
        max_length=300,
        title="Function",
        description="Module and function, such as plant_recipes.mixing:next_batch. "
        "SMARTOPS_PYTHON_PACKAGES must allow its package.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict,
        title="Arguments",
        description="Its arguments by name; they are checked against its type hints.",
    )

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return what the function gave."""
        return shorten(output["value"])
