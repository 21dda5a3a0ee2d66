"""Modbus answers with their data as it came.

The library takes what it has received apart number by number, and writes each out as text for a log
that is off: with a hundred registers in an answer that takes longer than the network does.
"""

from __future__ import annotations

from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import ModbusPDU
from pymodbus.pdu.bit_message import ReadCoilsResponse, ReadDiscreteInputsResponse
from pymodbus.pdu.register_message import (
    ReadHoldingRegistersResponse,
    ReadInputRegistersResponse,
)

from smartops import errors

_EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}
_BUSY = frozenset({5, 6, 10, 11})
_UNTOUCHED = frozenset({1, 2, 3})  # with 4 the device failed while it was at it
_NOT_DONE = frozenset({6, 10})  # 5 means "under way", and after 11 the device may have heard it


class WholeData(ModbusPDU):
    """An answer to a read; ``data`` is what stands behind its count of bytes."""

    data = b""

    def decode(self, data: bytes) -> None:
        """Keep what came. Raises ModbusIOException when it is less than it says."""
        if data[0] >= len(data):
            raise ModbusIOException(f"{data[0]} bytes are said to come, and {len(data) - 1} did")
        self.data = data[1 : data[0] + 1]

    def __str__(self) -> str:
        """Return its kind: the library asks for it with each answer, whether it logs or not."""
        return type(self).__name__


class _Coils(WholeData, ReadCoilsResponse):
    pass


class _Discretes(WholeData, ReadDiscreteInputsResponse):
    pass


class _Holdings(WholeData, ReadHoldingRegistersResponse):
    pass


class _Inputs(WholeData, ReadInputRegistersResponse):
    pass


ANSWERS = (_Coils, _Discretes, _Holdings, _Inputs)
"""To be registered at a client, in place of its own."""


def refusal(code: int, what: str) -> errors.SmartOpsError:
    """Return the error for an exception code, and whether nothing was surely done."""
    text = f"{what}: {_EXCEPTIONS.get(code, 'exception')} ({code})"
    if code in _BUSY:
        busy = errors.DeviceBusy(text)
        busy.code, busy.not_done = code, code in _NOT_DONE
        return busy
    refused = errors.DeviceRefused(text)
    refused.code, refused.not_done = code, code in _UNTOUCHED
    return refused
