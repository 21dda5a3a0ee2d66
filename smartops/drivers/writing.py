"""Writes one tag of a device: checked, on record, sent once, and read back."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Generic, TypeVar

from smartops import errors
from smartops.drivers.device_tag import DeviceTag
from smartops.drivers.readings import Command, CommandLog, CommandResult, Reading, Value

_VERIFY_POLL_S = 0.05
T = TypeVar("T", bound=DeviceTag)


@dataclass(frozen=True)
class WriteOptions:
    """How a write is verified, and what happens when it cannot be."""

    tolerance: float = 0.0
    """How far the value read back may be off, in the tag's unit."""
    verify_within: timedelta = timedelta(seconds=2)
    restore_on_mismatch: bool = False
    repeatable: bool | None = None
    """Whether sending it twice would do no harm; None leaves it to the tag."""
    approver: str = ""
    """Who has approved it; some tags want that."""


_STANDARD = WriteOptions()


class TaggedDevice(ABC, Generic[T]):
    """An open device whose values have names. Not for use by several tasks at once."""

    def __init__(self, name: str, tags: Iterable[T]) -> None:
        self.name = name
        self._tags = {tag.name: tag for tag in tags}

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether the device can still be asked."""

    @abstractmethod
    async def read(self, names: Iterable[str]) -> list[Reading]:
        """Return a reading for each name, in that order."""

    @abstractmethod
    async def send(self, tag: T, value: Value) -> None:
        """Send the value once; return when the device has taken it. Only :meth:`write` calls it."""

    @abstractmethod
    def nearest(self, tag: T, value: Value) -> Value:
        """Return what the device can hold of a value, as far as that is known."""

    def tag(self, name: str) -> T:
        """Return the tag of a name. Raises UnknownTag."""
        if name not in self._tags:
            known = ", ".join(sorted(self._tags)) or "none"
            raise errors.UnknownTag(f"{self.name} has no tag {name!r}; it has: {known}")
        return self._tags[name]

    async def check_write(self, name: str, value: Value) -> Value | None:
        """Check a write without making it; return what is held now, None if that is unsure.

        Limits, enum and largest step come first, then the interlocks, read fresh.
        Raises UnknownTag, WriteRefused, and what reading raises.
        """
        tag = self.tag(name)
        where = f"{self.name}.{name}"
        try:
            tag.check_write(value)  # before anything is asked of the device
            readings = await self.read([name, *(lock.tag for lock in tag.interlocks)])
            before = readings[0].value if readings[0].quality == "good" else None
            tag.check_step(value, before)
        except ValueError as error:
            raise errors.WriteRefused(f"{where}: {error}") from None
        for lock, reading in zip(tag.interlocks, readings[1:], strict=True):
            if problem := lock.problem(reading):
                raise errors.WriteRefused(f"{where}: interlock: {problem}")
        return before

    async def write(
        self, name: str, value: Value, log: CommandLog, options: WriteOptions = _STANDARD
    ) -> tuple[Command, CommandResult]:
        """Write once, read back until the value is there, and put all of it on record.

        Raises UnknownTag, WriteRefused (nothing was sent), DeviceRefused, WriteMismatch, and
        UnknownOutcome when nobody can say whether the device took the value.
        """
        tag = self.tag(name)
        if tag.approval and not options.approver:
            raise errors.WriteRefused(
                f"{self.name}.{name}: nobody has approved it, and its tag map wants that",
                hint="Write it by a job, in a step that needs an approval step.",
            )
        before = await self.check_write(name, value)
        command = Command(self.name, name, tag.unit, before, value, options.approver)
        return await _Write(self, tag, log, options).run(command)


@dataclass(frozen=True)
class _Write:
    """A write that has begun."""

    wire: TaggedDevice[Any]
    tag: DeviceTag
    log: CommandLog
    options: WriteOptions

    async def run(self, command: Command) -> tuple[Command, CommandResult]:
        command_id = self.log.intend(command)
        try:
            await self.wire.send(self.tag, command.requested)
        except (Exception, asyncio.CancelledError) as error:
            if surely_not_done(error):
                refused = CommandResult("refused", command.before, reason=str(error))
                self.log.conclude(command_id, refused)
                raise
            return command, await self._settle_unknown(command_id, command, error)
        result = await self._verify(command, self.options.tolerance, command_id)
        try:
            if result.state == "mismatch" and self.options.restore_on_mismatch:
                result = await self._restore(command, result)
        finally:
            self.log.conclude(command_id, result)
        if result.state == "mismatch":
            raise errors.WriteMismatch(_mismatch_text(command, result))
        return command, result

    async def _verify(self, command: Command, tolerance: float, command_id: str) -> CommandResult:
        """Read back until the value is there or the time is over; the write itself was answered."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.options.verify_within.total_seconds()
        reading: Reading | None = None
        reason = ""
        try:
            while True:
                try:
                    reading = (await self.wire.read([command.tag]))[0]
                    if self._holds(reading, command.requested, tolerance):
                        return CommandResult("confirmed", reading.value)
                except errors.SmartOpsError as error:
                    # What it held before that says nothing of what it holds now.
                    reading, reason = None, str(error)
                if loop.time() >= deadline:
                    break
                await asyncio.sleep(_VERIFY_POLL_S)
        except asyncio.CancelledError:
            self._unknown(command_id, "cancelled in read-back")
            raise
        if reading is not None and reading.quality == "good":
            return CommandResult("mismatch", reading.value)
        why = f"{reading.quality}: {reading.reason}" if reading is not None else reason
        self._unknown(command_id, why)
        raise errors.UnknownOutcome(
            f"{command.device}.{command.tag}: written, but it cannot be read back: {why}"
        )

    def _holds(self, reading: Reading, wanted: Value, tolerance: float) -> bool:
        """Return whether the device surely holds the value: what is uncertain may be an old one."""
        if reading.quality != "good":
            return False
        return holds(reading.value, self.wire.nearest(self.tag, wanted), tolerance)

    def _unknown(self, command_id: str, why: str) -> None:
        self.log.conclude(command_id, CommandResult("unknown", None, reason=why))

    async def _settle_unknown(
        self, command_id: str, command: Command, error: BaseException
    ) -> CommandResult:
        """After a write without an answer: only what is read back now can say what happened."""
        cancelled = isinstance(error, asyncio.CancelledError)
        why = str(error) or "cancelled"
        if not cancelled and self.wire.connected:
            try:
                after = (await self.wire.read([command.tag]))[0]
            except errors.SmartOpsError:
                after = None
            tolerance, wanted = self.options.tolerance, command.requested
            nearest = self.wire.nearest(self.tag, wanted)
            known = command.before is not None
            told_apart = known and not holds(command.before, nearest, tolerance)
            if told_apart and after is not None and self._holds(after, wanted, tolerance):
                result = CommandResult("confirmed", after.value, reason=str(error))
                self.log.conclude(command_id, result)
                return result
        self._unknown(command_id, why)
        if cancelled:
            raise error
        text = f"{command.device}.{command.tag}: {why} after the write was sent"
        given = self.options.repeatable
        if self.tag.effect == "idempotent" if given is None else given:
            raise errors.DeviceTimeout(text) from error
        raise errors.UnknownOutcome(
            text, hint="Look at the device before the job is run again."
        ) from error

    async def _restore(self, command: Command, result: CommandResult) -> CommandResult:
        """Write the value from before; it is a command of its own, on record like any other."""
        value = command.before
        if value is None:
            return result
        undo = replace(command, before=result.after, requested=value)
        undo_id = self.log.intend(undo)
        try:
            await self.wire.send(self.tag, value)
        except asyncio.CancelledError:
            self._unknown(undo_id, "cancelled")
            raise
        except Exception as error:
            if surely_not_done(error):
                self.log.conclude(
                    undo_id, CommandResult("refused", result.after, reason=str(error))
                )
                return replace(result, reason=f"restoring {value} failed: {error}")
            self._unknown(undo_id, str(error))
            raise errors.UnknownOutcome(
                f"{_mismatch_text(command, result)}; restoring {value}: {error}",
                hint="Look at the device before the job is run again.",
            ) from error
        back = await self._verify(undo, 0.0, undo_id)  # concludes what it cannot tell itself
        self.log.conclude(undo_id, back)
        if back.state != "confirmed":
            return replace(result, reason=f"restoring {value} failed: it holds {back.after}")
        return replace(result, restored=True)


def holds(value: Value | None, wanted: Value, tolerance: float) -> bool:
    """Return whether the value is the wanted one, within the tolerance.

    Of a structure only what was asked for counts.
    """
    if value is None or isinstance(wanted, bool) or isinstance(value, bool):
        return value is wanted
    if isinstance(value, list) and isinstance(wanted, list):
        pairs = zip(value, wanted, strict=False)
        return len(value) == len(wanted) and all(holds(a, b, tolerance) for a, b in pairs)
    if isinstance(value, dict) and isinstance(wanted, dict):
        return all(holds(value.get(name), item, tolerance) for name, item in wanted.items())
    if tolerance and isinstance(value, (int, float)) and isinstance(wanted, (int, float)):
        return abs(value - wanted) <= tolerance * (1 + 1e-9)
    return value == wanted


def surely_not_done(error: BaseException) -> bool:
    """Return whether an error says that the device has surely not done what it was asked for."""
    if isinstance(error, (errors.TransientError, errors.DeviceRefused)):
        return error.not_done
    return isinstance(error, errors.BadInput)


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
