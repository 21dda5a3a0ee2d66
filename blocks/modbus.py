"""A Modbus device and its tag map."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from blocks.connection import (
    DeviceConnection,
    quarantine_after_field,
    quarantine_longest_field,
)
from smartops.drivers import modbus
from smartops.drivers.coalesce import Hole
from smartops.drivers.tags import Area, Tag, check_map
from smartops.durations import Duration, duration_field


class AddressRange(BaseModel):
    """Addresses of a table that must not be read."""

    model_config = ConfigDict(extra="forbid")

    area: Area = Field(default="holding", title="Table", description="Which table they are in.")
    first: int = Field(ge=0, le=65535, title="First", description="The first address.")
    last: int = Field(ge=0, le=65535, title="Last", description="The last address.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.last < self.first:
            raise ValueError("last is below first")
        return self


class ModbusDevice(DeviceConnection):
    """A device that speaks Modbus, over a network or a serial line, with names for what it holds.

    Example:
        Load a saved device and read from it:
        ```python
        from blocks import ModbusDevice

        device = ModbusDevice.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Modbus Device"
    _block_type_slug = "modbus-device"

    transport: modbus.Transport = Field(
        default="tcp",
        title="Transport",
        description="tcp: Modbus TCP. rtu: a serial line of this machine. rtu-over-tcp: a serial "
        "line behind a converter that passes the bytes on as they are.",
    )
    host: str = Field(
        default="",
        title="Host",
        description="Host name or address of the device or gateway; empty for a serial line.",
    )
    port: int = Field(default=502, ge=1, le=65535, title="Port", description="Its TCP port.")
    unit: int = Field(
        default=1, ge=0, le=255, title="Unit", description="Unit id, also called slave address."
    )
    serial_port: str = Field(
        default="", title="Serial port", description="For rtu: the port, such as /dev/ttyUSB0."
    )
    baudrate: int = Field(
        default=9600, ge=50, le=4_000_000, title="Baud rate", description="For rtu."
    )
    parity: Literal["N", "E", "O"] = Field(
        default="N", title="Parity", description="For rtu: none, even or odd."
    )
    stopbits: Literal[1, 2] = Field(default=1, title="Stop bits", description="For rtu.")
    timeout: Duration = duration_field(
        "3s",
        gt=timedelta(),
        title="Timeout",
        description="How long to wait for an answer, such as 3s.",
    )
    pause: Duration = duration_field(
        "0s", title="Pause", description="The time to leave between an answer and the next request."
    )
    late_answers: Duration | None = Field(
        default=None,
        title="Late answers",
        description="On a serial line: how long after its timeout an answer may still come; "
        "nothing is sent until then. Empty: as long as the timeout.",
    )
    max_gap: int = Field(
        default=8,
        ge=0,
        le=124,
        title="Largest gap",
        description="How many unused addresses a request may read to save another one.",
    )
    max_registers: int = Field(
        default=125,
        ge=1,
        le=125,
        title="Most registers",
        description="How many registers one request may read or write: some devices allow fewer "
        "than the protocol.",
    )
    max_bits: int = Field(
        default=2000,
        ge=1,
        le=2000,
        title="Most bits",
        description="How many coils or discrete inputs one request may read or write.",
    )
    holes: list[AddressRange] = Field(
        default_factory=list,
        title="Holes",
        description="Addresses that must never be read, as the device does not like it.",
    )
    quarantine_after: int = quarantine_after_field()
    quarantine_longest: Duration = quarantine_longest_field()
    tags: list[Tag] = Field(
        default_factory=list,
        title="Tags",
        description="The tag map: a name, an address and a type for each value.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_map(self.tags, max_registers=self.max_registers, max_bits=self.max_bits)
        if self.transport == "rtu":
            if not self.serial_port or self.host or self.port != 502:
                raise ValueError("rtu has a serial port, and no host and port")
        elif self.serial_port or not self.host:
            raise ValueError(f"{self.transport} has a host and no serial port")
        if self.transport == "tcp" and self.late_answers is not None:
            raise ValueError("late_answers has no effect on tcp, where answers have numbers")
        if self.transport != "rtu" and (self.baudrate, self.parity, self.stopbits) != (
            9600,
            "N",
            1,
        ):
            raise ValueError("baud rate, parity and stop bits go with rtu")
        return self

    def connection(self) -> modbus.Connection:
        """Return what the driver needs."""
        return modbus.Connection(
            name=self.connection_name,
            host=self.host,
            port=self.port,
            unit=self.unit,
            timeout=self.timeout,
            tags=tuple(self.tags),
            max_gap=self.max_gap,
            max_registers=self.max_registers,
            max_bits=self.max_bits,
            transport=self.transport,
            line=self._line(),
            pause=self.pause,
            late=self.late_answers,
            patience=self.patience(),
            holes=tuple(Hole(hole.area, hole.first, hole.last) for hole in self.holes),
        )

    def open(self) -> AbstractAsyncContextManager[modbus.ModbusDriver]:
        """Connect, alone on the wire, for the length of an ``async with``."""
        return modbus.open_device(self.connection())

    def _line(self) -> modbus.SerialLine | None:
        if self.transport != "rtu":
            return None
        return modbus.SerialLine(self.serial_port, self.baudrate, self.parity, self.stopbits)
