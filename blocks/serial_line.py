"""A serial line and how its frames look."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, model_validator

from blocks.connection import (
    DeviceConnection,
    quarantine_after_field,
    quarantine_longest_field,
)
from smartops.drivers import serial_line
from smartops.drivers.framing import Checksum, Covers, FrameKind, Framing
from smartops.durations import Duration, duration_field


class SerialLine(DeviceConnection):
    """A device at a serial line: a scale, a barcode reader, a display.

    Example:
        Load a saved line:
        ```python
        from blocks import SerialLine

        line = SerialLine.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Serial Line"
    _block_type_slug = "serial-line"

    port: str = Field(
        min_length=1,
        pattern=r"^(/|COM\d|socket://|rfc2217://)",
        title="Port",
        description="Such as /dev/ttyUSB0; or socket://host:port and rfc2217://host:port for "
        "converters in the network.",
    )
    baudrate: int = Field(
        default=9600, ge=50, le=4_000_000, title="Baud rate", description="Bits a second."
    )
    bytesize: Literal[5, 6, 7, 8] = Field(
        default=8, title="Data bits", description="Bits of a character."
    )
    parity: serial_line.Parity = Field(
        default="N", title="Parity", description="None, even, odd, mark or space."
    )
    stopbits: Literal[1, 2] = Field(default=1, title="Stop bits", description="After a character.")
    timeout: Duration = duration_field(
        "2s",
        gt=timedelta(),
        title="Timeout",
        description="How long to wait for a whole answer, such as 2s.",
    )
    late_answers: Duration | None = Field(
        default=None,
        title="Late answers",
        description="How long after its timeout an answer may still come; nothing is sent until "
        "then. Empty: as long as the timeout.",
    )
    framing: FrameKind = Field(
        default="line",
        title="Frames",
        description="How a frame is told: it ends with a line feed; with a delimiter; has a fixed "
        "length; stands between start and stop; or ends when nothing more comes.",
    )
    start: str = Field(
        default="02", pattern=r"^([0-9A-Fa-f]{2})+$", title="Start", description="In hexadecimal."
    )
    stop: str = Field(
        default="03",
        pattern=r"^([0-9A-Fa-f]{2})+$",
        title="Stop",
        description="The stop bytes or the delimiter, in hexadecimal digits.",
    )
    length: int = Field(
        default=0, ge=0, le=65536, title="Length", description="Bytes of a frame of fixed length."
    )
    silence: Duration = duration_field(
        "50ms",
        gt=timedelta(),
        title="Silence",
        description="For frames that end when nothing more comes: after how long.",
    )
    checksum: Checksum = Field(
        default="none",
        title="Checksum",
        description="What stands at the end of a frame's data, and is checked.",
    )
    checksum_as_hex: bool = Field(
        default=False,
        title="Checksum as text",
        description="Whether it is written as hexadecimal digits.",
    )
    checksum_after_stop: bool = Field(
        default=False,
        title="Checksum after stop",
        description="Whether it stands behind the stop bytes or the delimiter (ETX, then BCC), and "
        "not before them. The data may contain the stop bytes then.",
    )
    checksum_covers: Covers = Field(
        default="data",
        title="Checksum covers",
        description="What a checksum behind the stop bytes is made of: the data; the data and the "
        "stop bytes; or the start bytes as well.",
    )
    quarantine_after: int = quarantine_after_field()
    quarantine_longest: Duration = quarantine_longest_field()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.framing == "length") != (self.length > 0):
            raise ValueError("frames of fixed length and a length go together")
        if self.framing != "start-stop" and self.start != "02":
            raise ValueError("start has no effect without frames between start and stop")
        if self.framing not in {"delimiter", "start-stop"} and self.stop != "03":
            raise ValueError("stop has no effect without a delimiter or stop bytes")
        set_up = (self.baudrate, self.bytesize, self.parity, self.stopbits) != (9600, 8, "N", 1)
        if self.port.startswith("socket://") and set_up:
            raise ValueError("behind socket:// the converter itself has baud rate, bits and parity")
        self._check_sum()
        return self

    def _check_sum(self) -> None:
        if self.checksum == "none" and self.checksum_as_hex:
            raise ValueError("without a checksum there is none to write as text")
        if self.checksum_after_stop:
            if self.checksum == "none" or self.framing not in {"delimiter", "start-stop"}:
                raise ValueError("checksum_after_stop goes with a checksum, and with stop bytes")
        elif self.checksum_covers != "data":
            raise ValueError("checksum_covers has no effect without checksum_after_stop")
        if self.checksum_covers == "start-data-stop" and self.framing != "start-stop":
            raise ValueError("there are no start bytes that a checksum could cover")

    def connection(self) -> serial_line.Connection:
        """Return what the driver needs."""
        return serial_line.Connection(
            name=self.connection_name,
            port=self.port,
            baudrate=self.baudrate,
            bytesize=self.bytesize,
            parity=self.parity,
            stopbits=self.stopbits,
            timeout=self.timeout,
            patience=self.patience(),
            late=self.late_answers,
            silence=self.silence,
            framing=Framing(
                self.framing,
                bytes.fromhex(self.start),
                bytes.fromhex(self.stop),
                self.length,
                self.checksum,
                self.checksum_as_hex,
                self.checksum_after_stop,
                self.checksum_covers,
            ),
        )

    def open(self) -> AbstractAsyncContextManager[serial_line.SerialDriver]:
        """Open the line alone, for the length of an ``async with``."""
        return serial_line.open_line(self.connection())
