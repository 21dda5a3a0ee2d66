"""Steps that talk to Modbus devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from blocks import ModbusDevice
from smartops.drivers.readings import Value
from smartops.errors import BadAnswer
from smartops.vocabulary import Effect
from tasks.step import current_record, step


@step(effect=Effect.READ, kind="modbus.read")
async def read_tags(
    device: ModbusDevice, tags: Sequence[str], keep: bool = False
) -> dict[str, Any]:
    """Read the named tags once; ``keep`` puts each reading on record by itself.

    Returns ``readings`` (tag -> reading), ``values`` (tag -> value) and, where one tag was asked
    for, its ``value``. Raises BadAnswer when a tag has no good value, and the driver's errors.
    """
    async with device.open() as client:
        readings = await client.read(tags)
    if keep:
        current_record().readings(device.connection_name, readings)
    bad = [f"{reading.tag}: {reading.reason}" for reading in readings if reading.quality == "bad"]
    if bad:
        raise BadAnswer(f"{device.connection_name}: no value for " + "; ".join(bad))
    values = {reading.tag: reading.value for reading in readings}
    single = {"value": readings[0].value} if len(readings) == 1 else {}
    return {
        **single,
        "values": values,
        "readings": {reading.tag: reading.as_json() for reading in readings},
    }


def _effect_of_write(inputs: Mapping[str, Any]) -> Effect:
    device: ModbusDevice = inputs["device"]
    tags = {tag.name: tag.effect for tag in device.tags}
    return Effect(tags.get(inputs["tag"], "unsafe"))


@step(effect=_effect_of_write, kind="modbus.write")
async def write_tag(
    device: ModbusDevice,
    tag: str,
    value: Value,
    tolerance: float = 0.0,
    verify_within: timedelta = timedelta(seconds=2),
    restore_on_mismatch: bool = False,
) -> dict[str, Any]:
    """Write one tag once and read it back.

    Returns ``tag``, ``unit``, ``before``, ``requested``, ``after`` and ``state``. Raises
    WriteRefused, WriteMismatch, UnknownOutcome and the driver's other errors.
    """
    record = current_record()
    record.touched = False  # the record notes it when the command is about to be sent
    async with device.open() as client:
        command, result = await client.write(
            tag,
            value,
            record,
            repeatable=record.effect is not Effect.UNSAFE,
            tolerance=tolerance,
            verify_within=verify_within,
            restore_on_mismatch=restore_on_mismatch,
        )
    return {
        "tag": tag,
        "unit": command.unit,
        "before": command.before,
        "requested": command.requested,
        "after": result.after,
        "state": result.state,
    }
