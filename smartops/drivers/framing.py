"""Where a serial frame begins and ends, and whether it came whole. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import fastcrc

FrameKind = Literal["line", "delimiter", "length", "start-stop", "silence"]
Checksum = Literal[
    "none",
    "sum",
    "xor",
    "lrc",
    "crc16-modbus",
    "crc16-xmodem",
    "crc16-kermit",
    "crc16-arc",
    "crc16-ibm-3740",
    "crc16-usb",
]


def _crc(name: str, *, low_first: bool) -> Callable[[bytes], bytes]:
    order: Literal["little", "big"] = "little" if low_first else "big"
    algorithm = getattr(fastcrc.crc16, name)
    return lambda data: algorithm(data).to_bytes(2, order)


_CHECKSUMS: Mapping[str, Callable[[bytes], bytes]] = {
    "none": lambda _: b"",
    "sum": lambda data: bytes([sum(data) & 0xFF]),
    "xor": lambda data: bytes([reduce(lambda a, b: a ^ b, data, 0)]),
    "lrc": lambda data: bytes([-sum(data) & 0xFF]),
    "crc16-modbus": _crc("modbus", low_first=True),
    "crc16-xmodem": _crc("xmodem", low_first=False),
    "crc16-kermit": _crc("kermit", low_first=True),
    "crc16-arc": _crc("arc", low_first=True),
    "crc16-ibm-3740": _crc("ibm_3740", low_first=False),
    "crc16-usb": _crc("usb", low_first=True),
}


@dataclass(frozen=True)
class Framing:
    """How frames are told apart on a line, and how they are checked.

    A checksum stands right behind what it is made of: before the delimiter or the stop bytes.
    """

    kind: FrameKind = "line"
    start: bytes = b"\x02"
    stop: bytes = b"\x03"
    """Also the delimiter; a line ends with a line feed, whatever stands before it."""
    length: int = 0
    checksum: Checksum = "none"
    checksum_as_hex: bool = False
    """Whether the checksum is written as hexadecimal digits."""

    def wrapped(self, data: bytes) -> bytes:
        """Return the bytes to send for a frame's data."""
        body = data + self._sum(data)
        match self.kind:
            case "line":
                return body + b"\r\n"
            case "delimiter":
                return body + self.stop
            case "start-stop":
                return self.start + body + self.stop
        return body

    def cut(self, buffer: bytes, *, silent: bool) -> tuple[bytes, int] | None:
        """Return the first whole frame's body and how many bytes it took; None: there is none yet.

        ``silent`` says that nothing has come for as long as ends a frame of that kind.
        """
        match self.kind:
            case "line" | "delimiter":
                stop = b"\n" if self.kind == "line" else self.stop
                end = buffer.find(stop)
                if end < 0:
                    return None
                body = buffer[:end]
                return (body.rstrip(b"\r") if self.kind == "line" else body), end + len(stop)
            case "length":
                return (buffer[: self.length], self.length) if len(buffer) >= self.length else None
            case "start-stop":
                begin = buffer.find(self.start)
                end = buffer.find(self.stop, begin + len(self.start)) if begin >= 0 else -1
                if end < 0:
                    return None
                return buffer[begin + len(self.start) : end], end + len(self.stop)
        return (buffer, len(buffer)) if silent and buffer else None

    def checked(self, body: bytes) -> bytes:
        """Return a frame's data without its checksum; raise ValueError where that is wrong."""
        size = len(self._sum(b""))
        if not size:
            return body
        if len(body) < size:
            raise ValueError(f"{body.hex()} is shorter than its checksum")
        data, found = body[:-size], body[-size:]
        wanted = self._sum(data)
        if (found.upper() if self.checksum_as_hex else found) != wanted:
            raise ValueError(f"{body.hex()} has a wrong checksum: {wanted.hex()} was expected")
        return data

    def _sum(self, data: bytes) -> bytes:
        made = _CHECKSUMS[self.checksum](data)
        return made.hex().upper().encode() if self.checksum_as_hex else made
