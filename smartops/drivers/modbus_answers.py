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
