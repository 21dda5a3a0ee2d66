"""Steps that talk to Modbus devices."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from blocks import ModbusDevice
from smartops.drivers.readings import Value
from smartops.jobs.kinds.device import Require
from smartops.vocabulary import Effect
from tasks.device import effect_of_write, readings_found, write_one
from tasks.step import step


@step(effect=Effect.READ, kind="modbus.read")
async def read_tags(
    device: ModbusDevice, tags: Sequence[str], require: Require = "uncertain", keep: bool = False
) -> dict[str, Any]:
    """Read the named tags once; ``keep`` puts each reading on record by itself.

    Returns ``readings`` (tag -> reading), ``values`` (tag -> value) and, where one tag was asked
    for, its ``value``. Raises BadAnswer when a tag's quality is below ``require``, and the driver's
    errors.
    """
    async with device.open() as client:
        readings = await client.read(tags)
    return readings_found(device.connection_name, readings, require, keep=keep)


@step(effect=effect_of_write("device"), kind="modbus.write")
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
    return await write_one(device, tag, value, tolerance, verify_within, restore_on_mismatch)
