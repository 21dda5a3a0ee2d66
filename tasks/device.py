"""What the steps for devices of all protocols share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from blocks import ModbusDevice, OpcUaServer
from blocks.connection import load_connection
from smartops.drivers.readings import Reading, Value
from smartops.drivers.writing import WriteOptions
from smartops.errors import BadAnswer, BadInput, UnknownBlock
from smartops.jobs.kinds.device import Require
from smartops.locks import urgent
from smartops.vocabulary import Effect
from tasks.approval import approved_by
from tasks.step import current_record

Device = ModbusDevice | OpcUaServer
KINDS: Mapping[type[Device], str] = {ModbusDevice: "modbus", OpcUaServer: "opcua"}
"""What the steps for each kind of device begin with."""
_BELOW: Mapping[Require, tuple[str, ...]] = {
    "good": ("uncertain", "bad"),
    "uncertain": ("bad",),
    "any": (),
}


async def find(name: str) -> Device:
    """Return the saved device of a name, whatever it speaks. Raises UnknownBlock and BadInput."""
    found: list[Device] = []
    for kind in KINDS:
        with suppress(UnknownBlock):
            found.append(await load_connection(kind, name))
    if len(found) > 1:
        raise BadInput(
            f"{name!r} is the name of a Modbus device and of an OPC UA server",
            hint="Save one of them under another name.",
        )
    if found:
        return found[0]
    raise UnknownBlock(
        f"no device {name!r} is saved",
        hint="Make it in the Prefect UI under Blocks: a Modbus Device or an OPC UA Server.",
    )


def readings_found(
    device: str, readings: Sequence[Reading], require: Require, *, keep: bool
) -> dict[str, Any]:
    """Return what a step that reads tags gives; with ``keep`` put each reading on record.

    Raises BadAnswer for readings whose quality is below what is required.
    """
    if keep:
        current_record().readings(device, readings)
    low = [f"{r.tag}: {r.quality}: {r.reason}" for r in readings if r.quality in _BELOW[require]]
    if low:
        raise BadAnswer(f"{device}: no value for " + "; ".join(low))
    values = {reading.tag: reading.value for reading in readings}
    single = {"value": readings[0].value} if len(readings) == 1 else {}
    return {
        **single,
        "values": values,
        "readings": {reading.tag: reading.as_json() for reading in readings},
    }


def effect_of_write(argument: str) -> Callable[[Mapping[str, Any]], Effect]:
    """Return what says the effect of a write to the device that an argument holds."""
    return lambda inputs: effect_on(inputs[argument], inputs["tag"])


def effect_on(device: Device, tag: str) -> Effect:
    """Return what the tag map says of writing a tag; unsafe where it does not know the tag."""
    tags = {known.name: known.effect for known in device.tags}
    return Effect(tags.get(tag, "unsafe"))


async def write_one(
    device: Device,
    tag: str,
    value: Value,
    tolerance: float,
    verify_within: timedelta,
    restore_on_mismatch: bool,
) -> dict[str, Any]:
    """Write one tag once and read it back.

    Returns ``tag``, ``unit``, ``before``, ``requested``, ``after`` and ``state``. Raises
    WriteRefused, WriteMismatch, UnknownOutcome and the driver's other errors.
    """
    record = current_record()
    record.touched = False  # the record notes it when the command is about to be sent
    repeatable = record.effect is not Effect.UNSAFE
    approver = approved_by.get()
    options = WriteOptions(tolerance, verify_within, restore_on_mismatch, repeatable, approver)
    urgent.set(True)  # before the reads that wait already
    async with device.open() as client:
        command, result = await client.write(tag, value, record, options)
    return {
        "tag": command.tag,
        "unit": command.unit,
        "before": command.before,
        "requested": command.requested,
        "after": result.after,
        "state": result.state,
    }
