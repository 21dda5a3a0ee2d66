"""What a write concludes from what the device says, step by step."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smartops import errors
from smartops.drivers.device_tag import DeviceTag
from smartops.drivers.opcua_values import short, typed
from smartops.drivers.readings import Command, CommandResult, Quality, Reading, Value
from smartops.drivers.writing import TaggedDevice, WriteOptions, holds

OPTIONS = WriteOptions(verify_within=timedelta(seconds=0.05))
RESTORE = WriteOptions(verify_within=timedelta(seconds=0.05), restore_on_mismatch=True)


class Log:
    """A command log in memory."""

    def __init__(self) -> None:
        self.intended: list[Command] = []
        self.states: list[str] = []

    def intend(self, command: Command) -> str:
        self.intended.append(command)
        return ""

    def conclude(self, command_id: str, result: CommandResult) -> None:
        self.states.append(result.state)


class Scripted(TaggedDevice[DeviceTag]):
    """A device that says what is written down; the last word is said again and again."""

    connected = True

    def __init__(self, tag: DeviceTag, reads: list[Any], sends: list[Any]) -> None:
        super().__init__("plc", [tag])
        self._reads, self._sends = reads, sends
        self.sent: list[Value] = []

    async def read(self, names: Iterable[str]) -> list[Reading]:
        said = self._reads.pop(0) if len(self._reads) > 1 else self._reads[0]
        if isinstance(said, Exception):
            raise said
        quality: Quality = "good"
        if isinstance(said, tuple):
            said, quality = said
        return [Reading("t", said, "", quality, "why", datetime.now(UTC))]

    async def send(self, tag: Any, value: Value) -> None:
        self.sent.append(value)
        said = self._sends.pop(0) if self._sends else None
        if isinstance(said, Exception):
            raise said

    def nearest(self, tag: Any, value: Value) -> Value:
        return value


def gone() -> Exception:
    return errors.DeviceTimeout("no answer")


async def ends(
    reads: list[Any], sends: list[Any], options: WriteOptions = OPTIONS, **fields: Any
) -> tuple[str, list[str], int]:
    """Write 5; return the error's name, what was concluded, and how often something was sent."""
    tag = DeviceTag.model_validate({"name": "t", "allow_write": True, **fields})
    device, log = Scripted(tag, reads, sends), Log()
    try:
        await device.write("t", 5, log, options)
    except errors.SmartOpsError as error:
        return type(error).__name__, log.states, len(device.sent)
    return "", log.states, len(device.sent)


def half_done() -> Exception:
    error = errors.DeviceRefused("device failure (4)")
    error.not_done = False
    return error


@pytest.mark.parametrize(
    ("reads", "sends", "expected"),
    [
        ([1, 5], [], ("", ["confirmed"], 1)),
        ([1, 1], [], ("WriteMismatch", ["mismatch"], 1)),
        ([1, 1, gone()], [], ("UnknownOutcome", ["unknown"], 1)),
        ([1, (5, "uncertain")], [], ("UnknownOutcome", ["unknown"], 1)),
        ([1, 5], [gone()], ("", ["confirmed"], 1)),
        ([5, 5], [gone()], ("UnknownOutcome", ["unknown"], 1)),
        ([(None, "bad"), 5], [gone()], ("UnknownOutcome", ["unknown"], 1)),
        ([(1, "uncertain"), 5], [gone()], ("UnknownOutcome", ["unknown"], 1)),
        ([1, 1], [RuntimeError("the library")], ("UnknownOutcome", ["unknown"], 1)),
        ([1, 1], [errors.DeviceRefused("no")], ("DeviceRefused", ["refused"], 1)),
        ([1, 1], [half_done()], ("UnknownOutcome", ["unknown"], 1)),
    ],
)
async def test_how_a_write_ends(reads: list[Any], sends: list[Any], expected: Any) -> None:
    """Only what was read last, and is good, says what the device holds."""
    assert await ends(reads, sends) == expected


@pytest.mark.parametrize(
    ("reads", "sends", "expected"),
    [
        ([1, 2, 1], [], ("WriteMismatch", ["confirmed", "mismatch"], 2)),
        ([1, 2], [None, gone()], ("UnknownOutcome", ["unknown", "mismatch"], 2)),
        ([1, 2], [None, errors.DeviceRefused("no")], ("WriteMismatch", ["refused", "mismatch"], 2)),
        ([(1, "uncertain"), 2], [], ("WriteMismatch", ["mismatch"], 1)),
    ],
)
async def test_how_a_restore_ends(reads: list[Any], sends: list[Any], expected: Any) -> None:
    """What is not known of it is unknown; what is unsure before is not written again."""
    if len(reads) > 2:
        reads = [reads[0], *[reads[1]] * 2, *reads[2:]]
    found = await ends(reads, sends, RESTORE)
    assert (found[0], found[2]) == (expected[0], expected[2])
    assert found[1] == expected[1]


async def test_limits_hold_in_arrays_of_any_depth() -> None:
    """And for what is no number at all."""
    tag = DeviceTag(name="t", allow_write=True, max=100)
    for value in ([[9999]], [[1], [101]], "fast", True, {"a": 5}, []):
        with pytest.raises(ValueError, match="limit"):
            tag.check_write(value)
    tag.check_write([[1.0], [100]])


def test_numbers_of_32_bits() -> None:
    """Each is itself, however large."""
    for number in (16777216.0, 12345678.0, 64.09, -0.1, 3.4e38):
        assert short(short(number)) == short(number)
    assert short(16777216.0) == 16777216.0
    assert short(64.09) == 64.09
    from asyncua import ua

    with pytest.raises(errors.BadInput, match="does not fit"):
        typed(1e39, ua.VariantType.Float)


def test_what_a_value_holds() -> None:
    """Parts of structures, with a tolerance, at any depth; true is not 1."""
    assert holds({"a": {"b": 1.04, "c": 2}}, {"a": {"b": 1}}, 0.05)
    assert not holds({"a": {"b": 1.06, "c": 2}}, {"a": {"b": 1}}, 0.05)
    assert not holds([1, 2], [1], 0)
    assert not holds(1, True, 0)
