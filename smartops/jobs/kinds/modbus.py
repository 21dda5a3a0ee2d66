"""``modbus.read`` and ``modbus.write``: registers and coils by the names of a tag map."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat

from smartops.durations import Duration, duration_field
from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase, suggest

_DEVICE = Field(
    title="Device", description="Name of the saved Modbus Device connection.", min_length=1
)


@register
class ModbusRead(StepBase):
    """Read tags from a Modbus device."""

    model_config = ConfigDict(title="Modbus read")

    kind: Literal["modbus.read"] = "modbus.read"
    device: str = _DEVICE
    tags: tuple[str, ...] = Field(
        min_length=1,
        title="Tags",
        description="Names from the device's tag map.",
        json_schema_extra=suggest([]),
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
        return ", ".join(f"{r['tag']} {_value(r['value'])} {r['unit']}".rstrip() for r in readings)


@register
class ModbusWrite(StepBase):
    """Write one tag of a Modbus device, and read it back."""

    model_config = ConfigDict(title="Modbus write")

    kind: Literal["modbus.write"] = "modbus.write"
    device: str = _DEVICE
    tag: str = Field(min_length=1, title="Tag", description="Name from the device's tag map.")
    value: bool | int | FiniteFloat | str = Field(
        title="Value", description="The value in the tag's unit; a number, true or false, a text."
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
        before, after = _value(output["before"]), _value(output["after"])
        text = f"{output['tag']} {before} → {after} {output['unit']}".rstrip()
        return f"{text}, {output['state']}"


def _value(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
