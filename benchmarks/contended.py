"""Two processes on one serial line: frames that overlap, and stale answers that are believed.

Each operation opens the line, reads two registers far apart or writes one and reads it back, and
closes it. The device answers some requests late or never, and some operations are broken off. The
peer is pymodbus as it comes: it opens the line alone and waits for its turn, and that is all.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from typing import Any, Literal

from pymodbus.client import AsyncModbusSerialClient
from pymodbus.exceptions import ModbusException

from benchmarks import contended_bus
from benchmarks.contended_bus import LATE_S, TIMEOUT_S, held_at
from smartops import errors
from smartops.drivers import modbus
from smartops.drivers.quarantine import Patience
from smartops.drivers.readings import Command, CommandResult
from smartops.drivers.tags import Tag
from smartops.drivers.writing import WriteOptions

OPERATIONS, PEER_OPERATIONS, WORKERS = 10_000, 1_000, 2
FAULTS = 0.004
"""The share of requests that is answered late, and the share that is not."""
_FAR = 500
_ADDRESSES = 200
"""How many addresses a worker goes through: a stale answer is never to one of the same address."""
_BROKEN_OFF = 0.004
Talker = Literal["smartops", "pymodbus"]


def run(home: str) -> dict[str, Any]:
    """Return what the device and the workers have seen, ours and the peer's."""
    return {
        **contend(home, OPERATIONS, FAULTS),
        "pymodbus": contend(home, PEER_OPERATIONS, FAULTS, "pymodbus"),
    }


def contend(
    home: str, operations: int, faults: float, talker: Talker = "smartops"
) -> dict[str, float]:
    """Let the workers do their operations on one line; return the counts and the seconds."""
    begun = time.perf_counter()
    environment = {**os.environ, "SMARTOPS_HOME": home}
    share = str(operations // WORKERS)
    with contended_bus.running(faults) as bus:
        base = [sys.executable, "-m", "benchmarks.contended", talker, bus.path, share]
        workers = [
            subprocess.Popen([*base, str(n)], env=environment, stdout=subprocess.PIPE, text=True)
            for n in range(WORKERS)
        ]
        told = [json.loads(worker.communicate()[0]) for worker in workers]
    counts = sum((Counter(worker["counts"]) for worker in told), Counter[str]())
    confirmed = [(address, value) for worker in told for address, value in worker["confirmed"]]
    return {
        **{
            name: counts[name]
            for name in ("operations", "read", "confirmed", "failed", "broken_off")
        },
        "requests": bus.requests,
        "answered_late": bus.late,
        "unanswered": bus.unanswered,
        "overlapping_frames": bus.overlapping,
        "asked_too_early": bus.too_early,
        "stale_answers_accepted": counts["stale"],
        "written_twice": sum(times > 1 for times in bus.written.values()),
        "confirmed_but_not_written": sum(not bus.written[write] for write in confirmed),
        "seconds": time.perf_counter() - begun,
    }


class _Log:
    """The commands' record, which a benchmark does not need."""

    def intend(self, command: Command) -> str:
        return command.tag

    def conclude(self, command_id: str, result: CommandResult) -> None:
        pass


class Worker:
    """One of the processes: reads its own addresses in turn, writes to a register of its own."""

    def __init__(self, path: str, number: int) -> None:
        self._number = number
        self._path = path
        self._chance = random.Random(number)
        self.counts: Counter[str] = Counter()
        self.confirmed: list[tuple[int, int]] = []
        self._first = 1 + number * 10_000
        self._register = 60_000 + number

    async def work(self, operations: int, talker: Talker) -> None:
        """Do the operations one after the other."""
        once = self._ours if talker == "smartops" else self._peers
        for turn in range(1, operations + 1):
            broken_off = talker == "smartops" and self._chance.random() < _BROKEN_OFF
            self.counts["operations"] += 1
            limit = self._chance.uniform(0.0, 0.02) if broken_off else None
            try:
                async with asyncio.timeout(limit):
                    await once(turn)
            except TimeoutError:
                self.counts["broken_off"] += 1
            except errors.WriteMismatch:  # nobody else writes there: what was read back is stale
                self.counts["stale"] += 1
            except (errors.SmartOpsError, ModbusException):
                self.counts["failed"] += 1

    async def _ours(self, turn: int) -> None:
        address = self._first + turn % _ADDRESSES
        tags = (
            Tag(name="near", area="input", address=address),
            Tag(name="far", area="input", address=address + _FAR),
            Tag(name="level", address=self._register, allow_write=True),
        )
        line = modbus.SerialLine(self._path, baudrate=115_200)
        connection = modbus.Connection(
            "bus",
            "",
            0,
            1,
            timedelta(seconds=TIMEOUT_S),
            tags,
            transport="rtu",
            line=line,
            late=timedelta(seconds=LATE_S),
            patience=Patience(after=0),
        )
        options = WriteOptions(verify_within=timedelta(seconds=0.1))
        async with modbus.open_device(connection) as device:
            if turn % 3:
                near, far = await device.read(["near", "far"])
                self._look(address, near.value, far.value)
            else:
                await device.write("level", turn, _Log(), options)
                self.counts["confirmed"] += 1
                self.confirmed.append((self._register, turn))

    async def _peers(self, turn: int) -> None:
        address = self._first + turn % _ADDRESSES
        client = AsyncModbusSerialClient(self._path, baudrate=115_200, timeout=TIMEOUT_S)
        while not await client.connect():  # the other one has the line
            await asyncio.sleep(0.005)
        try:
            if turn % 3:
                near = await client.read_input_registers(address)
                far = await client.read_input_registers(address + _FAR)
                self._look(address, near.registers[0], far.registers[0])
            else:
                await client.write_register(self._register, turn)
                held = await client.read_holding_registers(self._register)
                self.counts["confirmed" if held.registers == [turn] else "stale"] += 1
        finally:
            client.close()

    def _look(self, address: int, near: object, far: object) -> None:
        right = (near, far) == (held_at(address), held_at(address + _FAR))
        self.counts["read"] += 1
        self.counts["stale"] += not right


def main() -> None:
    """Work, and print what came of it."""
    talker, path, operations, number = sys.argv[1:]
    worker = Worker(path, int(number))
    asyncio.run(worker.work(int(operations), "smartops" if talker == "smartops" else "pymodbus"))
    print(json.dumps({"counts": worker.counts, "confirmed": worker.confirmed}))


if __name__ == "__main__":
    main()
