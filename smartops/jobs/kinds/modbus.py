"""``modbus.read`` and ``modbus.write``: registers and coils by the names of a tag map."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from smartops.jobs.kinds import register
from smartops.jobs.kinds.device import ReadsTags, WritesTag

_DEVICE = Field(
    title="Device", description="Name of the saved Modbus Device connection.", min_length=1
)


@register
class ModbusRead(ReadsTags):
    """Read tags from a Modbus device."""

    model_config = ConfigDict(title="Modbus read")

    kind: Literal["modbus.read"] = "modbus.read"
    device: str = _DEVICE


@register
class ModbusWrite(WritesTag):
    """Write one tag of a Modbus device, and read it back."""

    model_config = ConfigDict(title="Modbus write")

    kind: Literal["modbus.write"] = "modbus.write"
    device: str = _DEVICE
