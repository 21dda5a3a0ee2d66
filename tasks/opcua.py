"""Steps that talk to OPC UA servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from blocks import OpcUaServer
from smartops.drivers.readings import Reading, Value
from smartops.durations import format_duration
from smartops.jobs.kinds.device import Require
from smartops.vocabulary import Effect
from tasks.device import effect_of_write, readings_found, write_one
from tasks.step import current_record, step


@step(effect=Effect.READ, kind="opcua.read")
async def read_nodes(
    server: OpcUaServer,
    tags: Sequence[str],
    require: Require = "uncertain",
    keep: bool = False,
    max_age: timedelta | None = None,
) -> dict[str, Any]:
    """Read the named tags once; ``keep`` puts each reading on record by itself.

    Returns ``readings`` (tag -> reading), ``values`` (tag -> value) and, where one tag was asked
    for, its ``value``. Raises BadAnswer when a tag's quality is below ``require``, and the driver's
    errors.
    """
    async with server.open() as client:
        readings = [aged(reading, max_age) for reading in await client.read(tags)]
    return readings_found(server.connection_name, readings, require, keep=keep)


def aged(reading: Reading, max_age: timedelta | None) -> Reading:
    """Return a reading; uncertain where its value is older than it may be, or of unknown age."""
    if max_age is None or reading.quality != "good":
        return reading
    if reading.source_at is None:
        return replace(reading, quality="uncertain", reason="the server does not say how old it is")
    age = reading.received_at - reading.source_at
    if age <= max_age:
        return reading
    reason = f"it is {format_duration(timedelta(seconds=round(age.total_seconds())))} old"
    return replace(reading, quality="uncertain", reason=reason)


@step(effect=effect_of_write("server"), kind="opcua.write")
async def write_node(
    server: OpcUaServer,
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
    return await write_one(server, tag, value, tolerance, verify_within, restore_on_mismatch)


@step(effect=Effect.UNSAFE, kind="opcua.call")
async def call_method(
    server: OpcUaServer, node: str, method: str, args: Sequence[Any] = ()
) -> dict[str, Any]:
    """Call a method once. Returns ``results``, and the first of them as ``result``.

    Raises BadInput, DeviceRefused, UnknownOutcome and the driver's other errors.
    """
    record = current_record()
    record.touched = False
    async with server.open() as client:
        arguments = await client.prepare(method, args)
        record.touched = True
        results = await client.call(
            node, method, arguments, repeatable=record.effect is not Effect.UNSAFE
        )
    return {"results": results, "result": results[0] if results else None}
