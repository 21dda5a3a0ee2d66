"""The line's serial devices: a scale that is asked, and a barcode reader that speaks by itself.

Each has a pseudo-terminal, found by a name of its own in a folder. Frames are put together by hand
here, so that a mistake in our own framing shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import termios
import tty
from functools import reduce
from pathlib import Path

from smartops.plant.faults import Faults, PlantLog
from smartops.plant.following import Follower
from smartops.plant.line import Line

SCALE, SCANNER = "scale", "scanner"
"""Names of the ports in their folder."""
_LOOK_S = 0.05
_MOST_BYTES = 1000
_MOST_AT_ONCE = 20
_ZERO_RANGE_KG = 0.2
_STX, _ETX = b"\x02", b"\x03"


class _Port:
    """The device's end of a pseudo-terminal whose other end has a name of its own."""

    def __init__(self, name: Path) -> None:
        self.end, self._line_end = os.openpty()
        tty.setraw(self._line_end)
        os.set_blocking(self.end, False)
        self._name, self._device = name, os.ttyname(self._line_end)
        draft = name.with_name(f"{name.name}.new")
        draft.unlink(missing_ok=True)
        draft.symlink_to(self._device)
        draft.replace(name)  # one that a killed plant has left is replaced

    def leave_line_end(self) -> None:
        """Leave the other end to those who use the device: then it is known whether one does."""
        os.close(self._line_end)
        self._line_end = -1

    def is_used(self) -> bool:
        """Return whether anybody has the port open."""
        look = select.poll()
        look.register(self.end, 0)
        return not any(event & select.POLLHUP for _, event in look.poll(0))

    def send(self, data: bytes) -> None:
        """Send what fits: like any serial line, it loses what nobody takes."""
        with contextlib.suppress(OSError):
            os.write(self.end, data)

    def forget(self) -> None:
        """Throw away what the last user has left, as a port does that nobody has open."""
        with contextlib.suppress(OSError):
            line_end = os.open(self._device, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
            try:
                termios.tcflush(line_end, termios.TCIFLUSH)
            finally:
                os.close(line_end)

    def close(self) -> None:
        """Close both ends, and remove the name unless another plant has it by now."""
        with contextlib.suppress(OSError):
            if str(self._name.readlink()) == self._device:
                self._name.unlink()
        for end in (self.end, self._line_end):
            if end >= 0:
                os.close(end)


class Scale:
    """What a scale makes of its commands: a part of MT-SICS, the language of many scales."""

    def __init__(self, line: Line, faults: Faults, log: PlantLog) -> None:
        self._line, self._faults, self._log = line, faults, log
        self._zero_kg = self._tare_kg = 0.0

    def answer(self, command: str) -> str:
        """Return the answer to a command, without its line end.

        ``S``: the weight in kg once it is at rest, ``SI``: the weight as it is, ``Z``: set to zero,
        ``T``: take as the tare, ``TAC``: forget the tare. ``I`` in an answer: not now.
        """
        if command in {"Z", "T", "TAC"}:
            self._log.add("scale.command", command=command)
        match command:
            case "S":
                return "S I" if self._moves() else f"S S {self._net()}"
            case "SI":
                return f"S {'D' if self._moves() else 'S'} {self._net()}"
            case "Z":
                return self._set_to_zero()
            case "T":
                return self._take_tare()
            case "TAC":
                self._tare_kg = 0.0
                return "TAC A"
        return "ES"

    def _moves(self) -> bool:
        now = self._line.snapshot()
        return "scale-busy" in self._faults or abs(now.speed - now.speed_setpoint) >= 1

    def _gross_kg(self) -> float:
        return self._line.crate_kg() - self._zero_kg

    def _net(self) -> str:
        return f"{self._gross_kg() - self._tare_kg:10.2f} kg"

    def _set_to_zero(self) -> str:
        if self._moves():
            return "Z I"
        load_kg = self._line.crate_kg()
        if abs(load_kg) > _ZERO_RANGE_KG:
            return "Z +"
        self._zero_kg, self._tare_kg = load_kg, 0.0
        return "Z A"

    def _take_tare(self) -> str:
        if self._moves():
            return "T I"
        self._tare_kg = self._gross_kg()
        return f"T S {self._tare_kg:10.2f} kg"


def code_frame(batch: str, number: int, *, garbled: bool = False) -> bytes:
    """Return what the reader sends for a bottle: its code and the XOR of that between STX and ETX.

    The code is the batch and the bottle's number in six digits, the XOR two hexadecimal digits.
    """
    code = f"{batch}{number % 1_000_000:06d}".encode()
    check = reduce(lambda a, b: a ^ b, code) ^ garbled
    return _STX + code + f"{check:02X}".encode() + _ETX


class SerialDevices(Follower):
    """The scale and the barcode reader, with their ports in a folder."""

    def __init__(self, line: Line, faults: Faults, log: PlantLog, folder: Path) -> None:
        self._line, self._faults = line, faults
        self._scale = Scale(line, faults, log)
        self._asked = b""
        self._told = line.passed
        self._wires: tuple[_Port, _Port] | None = None
        self.paths = folder / SCALE, folder / SCANNER

    def start(self) -> None:
        """Make the ports, and begin to answer and to read codes."""
        scale, scanner = self._wires = _Port(self.paths[0]), _Port(self.paths[1])
        # The scale's other end stays open: without it, reading fails while nobody uses the scale.
        scanner.leave_line_end()
        asyncio.get_running_loop().add_reader(scale.end, self._hear, scale)
        super().start()

    async def _leave(self) -> None:
        """Remove the ports."""
        if self._wires is not None:
            asyncio.get_running_loop().remove_reader(self._wires[0].end)
            for wire in self._wires:
                wire.close()
            self._wires = None

    def _hear(self, wire: _Port) -> None:
        """Answer each command that is whole; what is too long for one is thrown away."""
        with contextlib.suppress(BlockingIOError):
            self._asked += os.read(wire.end, _MOST_BYTES)
        *commands, rest = self._asked.split(b"\n")
        self._asked = rest if len(rest) < _MOST_BYTES else b""
        for command in commands:
            answer = self._scale.answer(command.decode("latin-1").strip())
            if "scale-silent" not in self._faults:
                wire.send(f"{answer}\r\n".encode())

    async def _follow(self) -> None:
        """Send the codes of the bottles that pass, while somebody has the scanner's port open."""
        assert self._wires is not None  # noqa: S101 - start() has made them
        wire, was_used = self._wires[1], False
        while True:
            await asyncio.sleep(_LOOK_S)
            used, passed = wire.is_used(), self._line.passed
            if was_used and not used:
                wire.forget()
            if used:
                # After a long pause of the process, nobody waits for all that it has missed.
                for number in range(max(self._told, passed - _MOST_AT_ONCE), passed):
                    garbled = "scanner-garbles" in self._faults
                    wire.send(code_frame(self._line.batch, number + 1, garbled=garbled))
            was_used, self._told = used, passed
