"""Where a serial frame begins and ends, and whether it came whole. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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


Covers = Literal["data", "data-stop", "start-data-stop"]
"""What a checksum behind the stop bytes is made of."""


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

    A checksum stands right behind the data, before the delimiter or the stop bytes; or it stands
    behind those: ETX, then BCC.
    """

    kind: FrameKind = "line"
    start: bytes = b"\x02"
    stop: bytes = b"\x03"
    """Also the delimiter; a line ends with a line feed, whatever stands before it."""
    length: int = 0
    checksum: Checksum = "none"
    checksum_as_hex: bool = False
    """Whether the checksum is written as hexadecimal digits."""
    checksum_after_stop: bool = False
    checksum_covers: Covers = "data"
    """What a checksum behind the stop bytes is made of."""

    def wrapped(self, data: bytes) -> bytes:
        """Return the bytes to send for a frame's data."""
        if self.checksum_after_stop:
            return self._opening + data + self.stop + self._sum(data)
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

        ``silent`` says that nothing has come for as long as ends a frame of that kind. A checksum
        in bytes may look like the end of the frame: the end is where the checksum is right.
        """
        first: tuple[bytes, int] | None = None
        for found in self._ends(buffer, silent=silent):
            if not self._may_look_like_an_end or self._is_right(found[0]):
                return found
            first = first or found
        return first if silent else None

    @property
    def _may_look_like_an_end(self) -> bool:
        marked = self.kind in {"line", "delimiter", "start-stop"}
        inside = self.checksum_after_stop or not self.checksum_as_hex
        return marked and self.checksum != "none" and inside

    @property
    def _opening(self) -> bytes:
        return self.start if self.kind == "start-stop" else b""

    def _is_right(self, body: bytes) -> bool:
        try:
            self.checked(body)
        except ValueError:
            return False
        return True

    def _ends(self, buffer: bytes, *, silent: bool) -> Iterator[tuple[bytes, int]]:
        """Yield what the first frame may be: its body, and how many bytes it takes."""
        match self.kind:
            case "length":
                if len(buffer) >= self.length:
                    yield buffer[: self.length], self.length
            case "silence":
                if silent and buffer:
                    yield buffer, len(buffer)
            case _:
                yield from self._marked_ends(buffer)

    def _marked_ends(self, buffer: bytes) -> Iterator[tuple[bytes, int]]:
        stop = b"\n" if self.kind == "line" else self.stop
        begin = 0
        if self.kind == "start-stop":
            if (at := buffer.find(self.start)) < 0:
                return
            begin = at + len(self.start)
        end = buffer.find(stop, begin)
        while end >= 0:
            body = buffer[begin:end]
            if self.checksum_after_stop:
                whole = end + len(stop) + len(self._sum(b""))
                if whole > len(buffer):
                    return
                yield body + buffer[end + len(stop) : whole], whole
                end = buffer.find(stop, end + 1)
                continue
            if self.kind == "line":
                exact = self._may_look_like_an_end
                yield (body.removesuffix(b"\r") if exact else body.rstrip(b"\r")), end + len(stop)
            if self.kind != "line" or self._may_look_like_an_end:
                yield body, end + len(stop)
            end = buffer.find(stop, end + 1)

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
        covered = data
        if self.checksum_covers != "data":
            covered = data + self.stop
        if self.checksum_covers == "start-data-stop":
            covered = self._opening + covered
        made = _CHECKSUMS[self.checksum](covered)
        return made.hex().upper().encode() if self.checksum_as_hex else made
