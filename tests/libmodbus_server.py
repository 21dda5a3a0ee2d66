"""A Modbus device made with libmodbus, in a process of its own: TCP, or RTU on a serial port.

    python -m tests.libmodbus_server tcp PORT MEMORY LOG
    python -m tests.libmodbus_server rtu DEVICE MEMORY LOG

MEMORY is a JSON file: see :class:`tests.other_makes.Memory`. LOG gets the line ``ready``, then each
request in hexadecimal digits, before it is answered. It ends when its standard input is closed,
which also happens when the process that started it dies.
"""

from __future__ import annotations

import ctypes
import errno
import json
import select
import sys
from ctypes.util import find_library
from pathlib import Path
from typing import Any

_GONE = frozenset({errno.EBADF, errno.EIO, errno.ENODEV})
"""With other errors there was a request on the serial line that could not be read."""
_LONGEST = 260
_STDIN = 0
_AREAS = {1: "coil", 5: "coil", 15: "coil", 2: "discrete", 4: "input"}


class _Mapping(ctypes.Structure):
    """The library's ``modbus_mapping_t``: what the device holds."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("nb_bits", "start_bits")),
        *((name, ctypes.c_int) for name in ("nb_input_bits", "start_input_bits")),
        *((name, ctypes.c_int) for name in ("nb_input_registers", "start_input_registers")),
        *((name, ctypes.c_int) for name in ("nb_registers", "start_registers")),
        ("coil", ctypes.POINTER(ctypes.c_uint8)),
        ("discrete", ctypes.POINTER(ctypes.c_uint8)),
        ("input", ctypes.POINTER(ctypes.c_uint16)),
        ("holding", ctypes.POINTER(ctypes.c_uint16)),
    )


def library() -> ctypes.CDLL | None:
    """Return libmodbus where it is installed."""
    found = find_library("modbus")
    if found is None:
        return None
    lib = ctypes.CDLL(found, use_errno=True)
    lib.modbus_new_tcp.restype = lib.modbus_new_rtu.restype = ctypes.c_void_p
    lib.modbus_mapping_new.restype = ctypes.POINTER(_Mapping)
    lib.modbus_new_rtu.argtypes = (
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_char,
        ctypes.c_int,
        ctypes.c_int,
    )
    return lib


class Device:
    """The device: one context of the library, its memory, and who is connected."""

    def __init__(self, lib: ctypes.CDLL, framing: str, where: str, memory: dict[str, Any]) -> None:
        self._lib, self._memory, self._tcp = lib, memory, framing == "tcp"
        if self._tcp:
            made = lib.modbus_new_tcp(b"127.0.0.1", int(where))
        else:
            made = lib.modbus_new_rtu(where.encode(), 115_200, b"N", 8, 1)
        self._context = ctypes.c_void_p(made)
        lib.modbus_set_slave(self._context, 1)
        self._mapping = self._filled()
        self._listening = self._serial = -1
        self.descriptors: list[int] = []
        self._open()

    def _filled(self) -> Any:
        areas = ("coil", "discrete", "holding", "input")
        mapping = self._lib.modbus_mapping_new(*(len(self._memory[area]) for area in areas))
        for area in areas:
            cells = getattr(mapping.contents, area)
            for at, value in enumerate(self._memory[area]):
                cells[at] = value
        return mapping

    def _open(self) -> None:
        if self._tcp:
            self._listening = self._lib.modbus_tcp_listen(self._context, 5)
            self.descriptors = [self._checked(self._listening)]
        else:
            self._checked(self._lib.modbus_connect(self._context))
            self._lib.modbus_flush(self._context)  # what came before it was there is not for it
            self._serial = self._lib.modbus_get_socket(self._context)
            self.descriptors = [self._serial]

    def _checked(self, result: int) -> int:
        if result < 0:
            raise OSError(ctypes.get_errno(), "libmodbus cannot open it")
        return result

    def serve(self, descriptor: int) -> bytes:
        """Do what is to be done at a descriptor that is ready; return the request, if one came."""
        if descriptor == self._listening:
            accepted = self._lib.modbus_tcp_accept(
                self._context, ctypes.byref(ctypes.c_int(self._listening))
            )
            self.descriptors.append(self._checked(accepted))
            return b""
        self._lib.modbus_set_socket(self._context, descriptor)
        query = (ctypes.c_uint8 * _LONGEST)()
        length = self._lib.modbus_receive(self._context, query)
        if length < 0:
            self._failed(descriptor, ctypes.get_errno())
        self._request, self._length = query, length
        return bytes(query[: max(length, 0)])  # none where a serial line's request is for others

    def _failed(self, descriptor: int, number: int) -> None:
        if self._tcp:
            self._lib.modbus_close(self._context)
            self.descriptors.remove(descriptor)
        elif number in _GONE:
            raise OSError(number, "the serial port is gone")
        else:
            self._lib.modbus_flush(self._context)

    def answer(self) -> None:
        """Answer the request that :meth:`serve` has returned."""
        code = self._refusal(bytes(self._request[: self._length])[6 if self._tcp else 0 :])
        if code:
            self._lib.modbus_reply_exception(self._context, self._request, code)
        else:
            self._lib.modbus_reply(self._context, self._request, self._length, self._mapping)

    def _refusal(self, request: bytes) -> int:
        """Return the exception that a request is to be answered with, 0 for none."""
        unit, function = request[:2]
        if unit != 1:
            return 11  # as a gateway says it of a unit that it cannot reach
        first, count = int.from_bytes(request[2:4], "big"), int.from_bytes(request[4:6], "big")
        last = first + (count if function in {1, 2, 3, 4, 15, 16} else 1) - 1
        refused: dict[str, int] = self._memory["refused"].get(_AREAS.get(function, "holding"), {})
        return max((code for at, code in refused.items() if first <= int(at) <= last), default=0)


def main() -> None:
    """Serve until the standard input is closed."""
    framing, where, memory, log_file = sys.argv[1:]
    lib = library()
    assert lib is not None
    device = Device(lib, framing, where, json.loads(Path(memory).read_text("utf-8")))
    with Path(log_file).open("a", encoding="ascii", buffering=1) as log:
        log.write("ready\n")
        while True:
            ready, _, _ = select.select([_STDIN, *device.descriptors], [], [])
            if _STDIN in ready:
                return
            for descriptor in ready:
                if request := device.serve(descriptor):
                    log.write(request.hex() + "\n")
                    device.answer()


if __name__ == "__main__":
    main()
