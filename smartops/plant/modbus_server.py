"""The line's PLC: its registers and coils over Modbus TCP, unit 1.

The register map, addresses from 0. It packs its registers itself, so that a mistake in our own
codec shows.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from smartops.plant.faults import Faults, PlantLog
from smartops.plant.line import MAX_SPEED, Line

_COILS, _DISCRETE, _HOLDING, _INPUT = "coils", "discrete", "holding", "input"
_AREA = {
    1: _COILS,
    5: _COILS,
    15: _COILS,
    2: _DISCRETE,
    3: _HOLDING,
    6: _HOLDING,
    16: _HOLDING,
    4: _INPUT,
}
_NEVER = 3600.0


def input_registers(line: Line) -> list[int]:
    """Return the input registers.

    0 tank level u16 x0.1 %, 1-2 temperature f32 words swapped, 3-4 good u32, 5-6 scrap u32 words
    and bytes swapped, 7 speed u16, 8 alarm bits, 9-12 energy f64, 13-16 batch, eight characters.
    """
    now = line.snapshot()
    raw = struct.pack(">H", round(now.tank_level * 10))
    raw += _swap_words(struct.pack(">f", now.temperature))
    raw += struct.pack(">I", now.good)
    raw += struct.pack("<I", now.scrap)
    raw += struct.pack(">HHd", round(now.speed), now.alarms, now.energy_kwh)
    raw += line.batch.encode().ljust(8, b"\0")
    return list(struct.unpack(f">{len(raw) // 2}H", raw))


def holding_registers(line: Line) -> list[int]:
    """Return the holding registers: 0 speed setpoint u16, 1-2 temperature setpoint f32."""
    raw = struct.pack(">Hf", line.speed_setpoint, line.temperature_setpoint)
    return list(struct.unpack(">3H", raw))


def _swap_words(raw: bytes) -> bytes:
    return raw[2:] + raw[:2]


class PlcServer:
    """The PLC on a port of the loopback interface. ``port`` is set by :meth:`start`."""

    def __init__(self, line: Line, faults: Faults, log: PlantLog, port: int) -> None:
        self._line, self._faults, self._log = line, faults, log
        self.port = port
        self._server: ModbusTcpServer | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; follow the fault that takes the PLC off the network. Raises OSError."""
        await self._listen()
        self._watch = asyncio.create_task(self._follow_offline())

    async def stop(self) -> None:
        """Stop listening and drop all connections."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self._drop()

    async def _listen(self) -> None:
        zeros = [SimData(0, count=17, values=0, datatype=DataType.REGISTERS)]
        bits = SimData(0, values=[False] * 16, datatype=DataType.BITS)
        device = SimDevice(
            1,
            simdata=(
                [bits],
                [SimData(0, values=[False] * 16, datatype=DataType.BITS)],
                [SimData(0, count=3, values=0, datatype=DataType.REGISTERS)],
                zeros,
            ),
            action=self._on_request,
        )
        self._server = ModbusTcpServer(device, address=("127.0.0.1", self.port))
        await self._server.serve_forever(background=True)
        transport: Any = self._server.transport
        self.port = transport.sockets[0].getsockname()[1]

    async def _drop(self) -> None:
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]
            self._server = None

    async def _follow_offline(self) -> None:
        while True:
            offline = "plc-offline" in self._faults
            if offline and self._server is not None:
                await self._drop()
            elif not offline and self._server is None:
                await self._listen()
            await asyncio.sleep(0.02)

    async def _on_request(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Answer one request from the line's state; carry out a write."""
        if "plc-silent" in self._faults:
            await asyncio.sleep(_NEVER)
        if "plc-busy" in self._faults:
            return ExcCodes.DEVICE_BUSY
        area = _AREA[function]
        if values is not None:
            refused = await self._on_write(area, address, list(values))
            if refused is not None:
                return refused
        current = self._registers(area)
        registers[: len(current)] = current
        return None

    def _registers(self, area: str) -> list[int]:
        now = self._line.snapshot()
        if area == _COILS:
            return [int(now.pump)]
        if area == _DISCRETE:
            return [int(now.speed < 1) << 1 | 1]  # 0 door closed, 1 standing still
        return input_registers(self._line) if area == _INPUT else holding_registers(self._line)

    async def _on_write(self, area: str, address: int, values: list[Any]) -> ExcCodes | None:
        self._log.add("modbus.write", area=area, address=address, values=[int(v) for v in values])
        if "plc-ignores-writes" in self._faults:
            current = self._registers(area)
            values[:] = current[address : address + len(values)]
            return None
        refused = self._apply(area, address, values)
        if refused is None and "plc-acts-without-answer" in self._faults:
            await asyncio.sleep(_NEVER)
        return refused

    def _apply(self, area: str, address: int, values: list[Any]) -> ExcCodes | None:
        match area, address, len(values):
            case "holding", 0, 1:
                if values[0] > MAX_SPEED:
                    return ExcCodes.ILLEGAL_VALUE
                self._line.speed_setpoint = values[0]
            case "holding", 1, 2:
                raw = struct.pack(">2H", *values)
                self._line.temperature_setpoint = struct.unpack(">f", raw)[0]
            case "coils", 0, 1:
                self._line.set_pump(bool(values[0]))
            case "coils", 1, 1:
                if values[0]:
                    self._line.reset_counters()
            case _:
                return ExcCodes.ILLEGAL_ADDRESS
        return None
