"""What the steps that read and write tags share, whatever the protocol."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, FiniteFloat, JsonValue

from smartops.durations import Duration, duration_field
from smartops.jobs.step import StepBase, suggest

Require = Literal["good", "uncertain", "any"]


class ReadsTags(StepBase):
    """A step that reads tags."""

    tags: tuple[str, ...] = Field(
        min_length=1,
        title="Tags",
        description="Names from the tag map.",
        json_schema_extra=suggest([]),
    )
    require: Require = Field(
        default="uncertain",
        title="Quality",
        description="The lowest quality that will do: good, uncertain (a value came, with doubts), "
        "or any: then a bad reading is a result like any other, and has no value.",
    )
    keep: bool = Field(
        default=False,
        title="Keep readings",
        description="Put each reading on record by itself, for reports on the device.",
    )

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return each tag with its value and unit."""
        readings = output["readings"].values()
        return ", ".join(f"{r['tag']} {shown(r['value'])} {r['unit']}".rstrip() for r in readings)


class WritesTag(StepBase):
    """A step that writes a tag."""

    tag: str = Field(min_length=1, title="Tag", description="Name from the tag map.")
    value: bool | int | FiniteFloat | str | list[JsonValue] | dict[str, JsonValue] = Field(
        title="Value",
        description="The value in the tag's unit: a number, true or false, a text, a list.",
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        title="Tolerance",
        description="How far the value read back may be off, in the tag's unit.",
    )
    verify_within: Duration = duration_field(
        "2s",
        title="Verify within",
        description="How long the device may take until the value can be read back.",
    )
    restore_on_mismatch: bool = Field(
        default=False,
        title="Restore on mismatch",
        description="Write the value from before when another value is read back.",
    )

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return the value before and after."""
        before, after = shown(output["before"]), shown(output["after"])
        text = f"{output['tag']} {before} → {after} {output['unit']}".rstrip()
        return f"{text}, {output['state']}"


def shown(value: Any) -> str:
    """Return a value for people."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
