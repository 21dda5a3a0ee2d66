"""Modbus TCP: read tags in few requests, write one and read it back.

pymodbus repeats writes on its own, so its retries are off; it hands back short answers and answers
of another function as good, so both are checked here; no exception of its leaves this module.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ExceptionResponse, ModbusPDU

from smartops import errors, locks
from smartops.drivers.coalesce import Block, plan_reads
from smartops.drivers.readings import Command, CommandLog, CommandResult, Reading, Value
from smartops.drivers.tags import Tag
from smartops.rehearsal import check_host

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it dumps packets on every error

_READ_FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
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
_BAD_ADDRESS = frozenset({2, 3})
_NOT_DONE = frozenset({6, 10})  # 5 means "under way", and after 11 the device may have heard it
_VERIFY_POLL_S = 0.05


@dataclass(frozen=True)
class Connection:
    """Where a device is, and what it holds."""

    name: str
    host: str
    port: int
    unit: int
    timeout: timedelta
    tags: tuple[Tag, ...]
    max_gap: int = 8

    @property
    def resource(self) -> str:
        """The wire that steps must not share: all units behind one address are on it."""
        return f"modbus://{self.host.lower()}:{self.port}"


@asynccontextmanager
async def open_device(connection: Connection) -> AsyncIterator[ModbusDriver]:
    """Connect, alone on the wire, and close at the end, whatever happens.

    Raises DeviceUnreachable and LockTimeout.
    """
    check_host(connection.name, connection.host)
    async with locks.exclusive(connection.resource):
        client = AsyncModbusTcpClient(
            connection.host,
            port=connection.port,
            timeout=connection.timeout.total_seconds(),
            retries=0,
            reconnect_delay=0,
        )
        try:
            if not await client.connect():
                raise errors.DeviceUnreachable(
                    f"{connection.name}: no answer at {connection.host}:{connection.port}",
                    hint="Check the address, the network and that the device is on.",
                )
            yield ModbusDriver(client, connection)
        finally:
            client.close()


class ModbusDriver:
    """An open device. Not for use by several tasks at once."""

    def __init__(self, client: AsyncModbusTcpClient, connection: Connection) -> None:
        self._client = client
        self._connection = connection
        self._tags = {tag.name: tag for tag in connection.tags}

    async def read(self, names: Iterable[str]) -> list[Reading]:
        """Return a reading for each name, in that order; one tag's fault harms no other.

        A tag that the device refuses, or whose words are no value, has quality bad and a reason.
        Raises UnknownTag, DeviceTimeout, DeviceBusy, DeviceUnreachable.
        """
        wanted = [self._tag(name) for name in names]
        readings: dict[str, Reading] = {}
        for block in plan_reads(dict.fromkeys(wanted), max_gap=self._connection.max_gap):
            for reading in await self._read_block(block):
                readings[reading.tag] = reading
        return [readings[tag.name] for tag in wanted]

    async def write(
        self,
        name: str,
        value: Value,
        log: CommandLog,
        *,
        tolerance: float = 0.0,
        verify_within: timedelta = timedelta(seconds=2),
        restore_on_mismatch: bool = False,
        repeatable: bool | None = None,
    ) -> tuple[Command, CommandResult]:
        """Write once, read back until the value is there, and put all of it on record.

        ``repeatable`` says whether sending it twice would do no harm; None leaves it to the tag.
        Raises UnknownTag, WriteRefused (nothing was sent), DeviceRefused, WriteMismatch, and
        UnknownOutcome when nobody can say whether the device took the value.
        """
        tag = self._checked(name, value)
        before = (await self.read([name]))[0]
        command = Command(self._connection.name, name, tag.unit, before.value, value)
        command_id = log.intend(command)
        try:
            await self._send_write(tag, value)
        except (errors.TransientError, errors.PermanentError, asyncio.CancelledError) as error:
            if _surely_not_done(error):
                log.conclude(command_id, CommandResult("refused", before.value, reason=str(error)))
                raise
            may_repeat = tag.effect == "idempotent" if repeatable is None else repeatable
            return command, await self._settle_unknown(
                command_id, command, log, tolerance, error, repeatable=may_repeat
            )
        result = await self._verify(command, tolerance, verify_within, command_id, log)
        try:
            if result.state == "mismatch" and restore_on_mismatch:
                result = await self._restore(command, result, verify_within, log)
        finally:
            log.conclude(command_id, result)
        return command, _confirmed(command, result)

    # --- reading -----------------------------------------------------------------------------

    def _tag(self, name: str) -> Tag:
        if name not in self._tags:
            known = ", ".join(sorted(self._tags)) or "none"
            raise errors.UnknownTag(f"{self._connection.name} has no tag {name!r}; it has: {known}")
        return self._tags[name]

    def _checked(self, name: str, value: Value) -> Tag:
        """Return the tag if the value may be written to it."""
        tag = self._tag(name)
        try:
            tag.check_write(value)
        except ValueError as error:
            raise errors.WriteRefused(f"{self._connection.name}.{name}: {error}") from None
        return tag

    async def _read_block(self, block: Block) -> list[Reading]:
        try:
            words = await self._fetch(block)
        except errors.DeviceRefused as error:
            if len(block.tags) > 1 and error.code in _BAD_ADDRESS:
                halves = [await self._read_block(_single(tag)) for tag in block.tags]
                return [reading for half in halves for reading in half]
            return [_bad(tag, str(error)) for tag in block.tags]
        now = datetime.now(UTC)
        return [_decode(tag, words[tag.address - block.address :], now) for tag in block.tags]

    async def _fetch(self, block: Block) -> list[Any]:
        unit, count = self._connection.unit, block.count
        call = {
            "coil": self._client.read_coils,
            "discrete": self._client.read_discrete_inputs,
            "holding": self._client.read_holding_registers,
            "input": self._client.read_input_registers,
        }[block.area]
        what = f"reading {block.area} {block.address}..{block.address + count - 1}"
        answer = await self._ask(
            call(block.address, count=count, device_id=unit), _READ_FUNCTIONS[block.area], what
        )
        if block.area in {"coil", "discrete"}:
            values: list[Any] = list(answer.bits)[:count]  # padded to a multiple of 8
        else:
            values = list(answer.registers)
        if len(values) != count:
            raise errors.BadAnswer(f"{self._connection.name}: {what}: {len(values)} came back")
        return values

    async def _ask(self, call: Any, function: int, what: str) -> ModbusPDU:
        name = self._connection.name
        try:
            answer: ModbusPDU = await call
        except ModbusException as error:
            if not self._client.connected:
                raise errors.DeviceUnreachable(f"{name}: {what}: connection lost") from error
            limit_s = self._connection.timeout.total_seconds()
            raise errors.DeviceTimeout(f"{name}: {what}: no answer in {limit_s:g} s") from error
        if isinstance(answer, ExceptionResponse):
            code = answer.exception_code
            text = f"{name}: {what}: {_EXCEPTIONS.get(code, 'exception')} ({code})"
            refusal = errors.DeviceBusy(text) if code in _BUSY else errors.DeviceRefused(text)
            refusal.code = code
            raise refusal
        if answer.function_code != function:
            raise errors.BadAnswer(f"{name}: {what}: an answer to function {answer.function_code}")
        return answer

    # --- writing -----------------------------------------------------------------------------

    async def _send_write(self, tag: Tag, value: Value) -> None:
        unit, what = self._connection.unit, f"writing {tag.name}"
        if tag.area == "coil":
            call, function = self._client.write_coil(tag.address, bool(value), device_id=unit), 5
        else:
            words = tag.encode(value)
            if len(words) == 1:
                call = self._client.write_register(tag.address, words[0], device_id=unit)
                function = 6
            else:
                call = self._client.write_registers(tag.address, words, device_id=unit)
                function = 16
        await self._ask(call, function, what)

    async def _verify(
        self,
        command: Command,
        tolerance: float,
        within: timedelta,
        command_id: str,
        log: CommandLog,
    ) -> CommandResult:
        """Read back until the value is there or the time is over; the write itself was answered."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within.total_seconds()
        reading: Reading | None = None
        reason = ""
        try:
            while True:
                try:
                    reading = (await self.read([command.tag]))[0]
                    if _holds(self._tags[command.tag], reading.value, command.requested, tolerance):
                        return CommandResult("confirmed", reading.value)
                except errors.SmartOpsError as error:
                    reason = str(error)
                if loop.time() >= deadline:
                    break
                await asyncio.sleep(_VERIFY_POLL_S)
        except asyncio.CancelledError:
            log.conclude(
                command_id, CommandResult("unknown", None, reason="cancelled in read-back")
            )
            raise
        if reading is not None and reading.value is not None:
            return CommandResult("mismatch", reading.value)
        why = reason or (reading.reason if reading else "")
        log.conclude(command_id, CommandResult("unknown", None, reason=why))
        raise errors.UnknownOutcome(
            f"{command.device}.{command.tag}: written, but it cannot be read back: {why}"
        )

    async def _settle_unknown(
        self,
        command_id: str,
        command: Command,
        log: CommandLog,
        tolerance: float,
        error: BaseException,
        *,
        repeatable: bool,
    ) -> CommandResult:
        """After a write without an answer: only what is read back now can say what happened."""
        text = (
            f"{command.device}.{command.tag}: {str(error) or 'cancelled'} after the write was sent"
        )
        if not isinstance(error, asyncio.CancelledError) and self._client.connected:
            try:
                after = (await self.read([command.tag]))[0].value
            except errors.SmartOpsError:
                after = None
            tag, wanted = self._tags[command.tag], command.requested
            told_apart = not _holds(tag, command.before, wanted, tolerance)
            if told_apart and _holds(tag, after, wanted, tolerance):
                result = CommandResult("confirmed", after, reason=str(error))
                log.conclude(command_id, result)
                return result
        log.conclude(command_id, CommandResult("unknown", None, reason=str(error) or "cancelled"))
        if isinstance(error, asyncio.CancelledError):
            raise error
        if repeatable:
            raise errors.DeviceTimeout(text) from error
        raise errors.UnknownOutcome(
            text, hint="Look at the device before the job is run again."
        ) from error

    async def _restore(
        self, command: Command, result: CommandResult, within: timedelta, log: CommandLog
    ) -> CommandResult:
        """Write the value from before; it is a command of its own, on record like any other."""
        tag = self._tags[command.tag]
        value = command.before
        if value is None:
            return result
        undo = replace(command, before=result.after, requested=value)
        undo_id = log.intend(undo)
        try:
            await self._send_write(tag, value)
            back = await self._verify(undo, 0.0, within, undo_id, log)
        except (errors.SmartOpsError, ValueError) as error:
            if not isinstance(error, errors.UnknownOutcome):
                log.conclude(undo_id, CommandResult("unknown", None, reason=str(error)))
            return replace(result, reason=f"restoring {value} failed: {error}")
        except asyncio.CancelledError:
            log.conclude(undo_id, CommandResult("unknown", None, reason="cancelled"))
            raise
        log.conclude(undo_id, back)
        if back.state != "confirmed":
            return replace(result, reason=f"restoring {value} failed: it holds {back.after}")
        return replace(result, restored=True)


def _confirmed(command: Command, result: CommandResult) -> CommandResult:
    """Return the result; raise WriteMismatch for a value that is not the one that was written."""
    if result.state == "mismatch":
        raise errors.WriteMismatch(_mismatch_text(command, result))
    return result


def _surely_not_done(error: BaseException) -> bool:
    if isinstance(error, errors.DeviceBusy):
        return error.code in _NOT_DONE
    return isinstance(error, errors.DeviceRefused)


def _single(tag: Tag) -> Block:
    return Block(tag.area, tag.address, tag.words, (tag,))


def _decode(tag: Tag, words: list[Any], now: datetime) -> Reading:
    if tag.area in {"coil", "discrete"}:
        return Reading(tag.name, bool(words[0]), tag.unit, "good", "", now)
    try:
        value = tag.decode(words[: tag.words])
    except ValueError as error:
        return Reading(tag.name, None, tag.unit, "bad", str(error), now)
    return Reading(tag.name, value, tag.unit, "good", "", now)


def _bad(tag: Tag, reason: str) -> Reading:
    return Reading(tag.name, None, tag.unit, "bad", reason, datetime.now(UTC))


def _holds(tag: Tag, value: Value | None, wanted: Value, tolerance: float) -> bool:
    """Return whether the value is the wanted one, as exactly as the tag's registers can hold it."""
    if value is None or isinstance(wanted, bool):
        return value is wanted
    nearest = tag.decode(tag.encode(wanted))
    if isinstance(value, str) or isinstance(nearest, str) or tolerance == 0:
        return value == nearest
    return abs(value - nearest) <= tolerance * (1 + 1e-9)


def _mismatch_text(command: Command, result: CommandResult) -> str:
    unit = f" {command.unit}" if command.unit else ""
    ending = ""
    if result.restored:
        ending = f"; {command.before}{unit} was restored"
    elif result.reason:
        ending = f"; {result.reason}"
    return (
        f"{command.device}.{command.tag}: wrote {command.requested}{unit}, "
        f"but it holds {result.after}{unit}{ending}"
    )
