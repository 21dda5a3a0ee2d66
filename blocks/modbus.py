"""A Modbus TCP device and its tag map."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from blocks.connection import Connection
from smartops.drivers import modbus
from smartops.drivers.tags import Tag, check_unique
from smartops.durations import Duration, duration_field


class ModbusDevice(Connection):
    """A device that speaks Modbus TCP, with names for its registers and coils.

    Example:
        Load a saved device and read from it:
        ```python
        from blocks import ModbusDevice

        device = ModbusDevice.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Modbus Device"
    _block_type_slug = "modbus-device"

    host: str = Field(
        title="Host", min_length=1, description="Host name or address of the device or gateway."
    )
    port: int = Field(default=502, ge=1, le=65535, title="Port", description="Its TCP port.")
    unit: int = Field(
        default=1, ge=0, le=255, title="Unit", description="Unit id, also called slave address."
    )
    timeout: Duration = duration_field(
        "3s",
        gt=timedelta(),
        title="Timeout",
        description="How long to wait for an answer, such as 3s.",
    )
    tags: list[Tag] = Field(
        default_factory=list,
        title="Tags",
        description="The tag map: a name, an address and a type for each value.",
    )

    @model_validator(mode="after")
    def _unique(self) -> Self:
        check_unique(self.tags)
        return self

    def open(self) -> AbstractAsyncContextManager[modbus.ModbusDriver]:
        """Connect, alone on the wire, for the length of an ``async with``."""
        return modbus.open_device(
            modbus.Connection(
                name=self.connection_name,
                host=self.host,
                port=self.port,
                unit=self.unit,
                timeout=self.timeout,
                tags=tuple(self.tags),
            )
        )
