"""What people do with a device by hand: look at it, read, write, watch it, trust it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from uuid6 import uuid7

from blocks import MqttBroker, OpcUaServer, SerialLine
from blocks.connection import load_connection
from smartops.audit.recording import RunInfo, StepRecord, recorded_run
from smartops.drivers import opcua_session, opcua_trust
from smartops.drivers.quarantine import by_hand
from smartops.drivers.readings import Command, CommandResult, Reading, Value
from smartops.drivers.writing import WriteOptions
from smartops.errors import BadInput, TransientError, UnknownBlock
from smartops.locks import Actor, acting, urgent
from tasks.device import KINDS, Device, effect_on, find

__all__ = ["Checked", "Device", "DryRun", "find", "find_any", "has_changed"]


@dataclass(frozen=True)
class Checked:
    """What a device said when it was asked for everything in its tag map."""

    took_ms: float
    """From the first attempt to connect to the last answer."""
    readings: tuple[Reading, ...]

    @property
    def bad(self) -> tuple[Reading, ...]:
        """Those without a value."""
        return tuple(reading for reading in self.readings if reading.quality == "bad")


@dataclass(frozen=True)
class DryRun:
    """What a write would send."""

    before: Value | None
    requested: Value
    unit: str
    sends: str


async def find_any(name: str) -> Device | MqttBroker | SerialLine:
    """Return what is saved under a name and can be connected to. Raises UnknownBlock."""
    try:
        return await find(name)
    except UnknownBlock:
        for kind in (MqttBroker, SerialLine):
            with suppress(UnknownBlock):
                return await load_connection(kind, name)
        raise


def _acting(what: str) -> None:
    acting.set(Actor(job=f"smartops device {what}"))


def _tags(device: Device, names: Sequence[str]) -> list[str]:
    return list(names) or [tag.name for tag in device.tags]


async def check(device: Device | MqttBroker | SerialLine) -> Checked:
    """Connect, and read everything in the tag map once, where there is one.

    Raises what the driver raises.
    """
    _acting("check")
    by_hand.set(True)
    began = time.monotonic()
    readings: list[Reading] = []
    if isinstance(device, (MqttBroker, SerialLine)):
        opened: AbstractAsyncContextManager[object] = device.open()
        async with opened:
            pass
    else:
        async with device.open() as client:
            readings = await client.read(_tags(device, ()))
    return Checked((time.monotonic() - began) * 1000, tuple(readings))


async def read(device: Device, names: Sequence[str]) -> list[Reading]:
    """Read tags once; all of the map where none is named."""
    _acting("read")
    by_hand.set(True)
    return await _read(device, names)


async def _read(device: Device, names: Sequence[str]) -> list[Reading]:
    async with device.open() as client:
        return await client.read(_tags(device, names))


async def try_write(device: Device, tag: str, value: Value) -> DryRun:
    """Make every check of a write, and say what it would send. Raises WriteRefused."""
    _acting("write --dry-run")
    by_hand.set(True)
    async with device.open() as client:
        before = await client.check_write(tag, value)
        found: Any = client.tag(tag)
        return DryRun(before, value, found.unit, client.shown(found, value))


async def write(
    device: Device, tag: str, value: Value, options: WriteOptions, person: str
) -> tuple[Command, CommandResult]:
    """Write a tag as a step does; it is a run of its own on record, with who asked for it."""
    _acting("write")
    urgent.set(True)
    by_hand.set(True)
    name, kind = device.connection_name, f"{KINDS[type(device)]}.write"
    effect = effect_on(device, tag)
    info = RunInfo(id=uuid7(), job="device-write", flow="smartops device", requested_by=person)
    inputs = {"device": name, "tag": tag, "value": value}
    with recorded_run(info) as ending:
        record = StepRecord(info, step="write", kind=kind, effect=effect, attempt=1, inputs=inputs)
        record.touched = False
        try:
            async with device.open() as client:
                command, result = await client.write(tag, value, record, options)
        except BaseException as error:
            record.failed(error)
            raise
        ending.output = {"before": command.before, "after": result.after, "state": result.state}
        record.completed(ending.output)
    return command, result


async def watch(
    device: Device, names: Sequence[str], every: timedelta
) -> AsyncIterator[Reading | str]:
    """Give each change of tags beyond their deadband, and in words when the device is away.

    The first reading of each tag counts as a change. It goes on until it is closed.
    """
    _acting("watch")
    deadbands = {tag.name: tag.deadband for tag in device.tags}
    shown: dict[str, Reading] = {}
    away = ""
    while True:
        try:
            found = await _read(device, names)
        except TransientError as error:
            if not away:  # said once, and again when it is back
                away = error.one_line
                yield f"away: {away}"
        else:
            if away:
                away = ""
                yield "back"
            for reading in found:
                before = shown.get(reading.tag)
                if before is None or has_changed(before, reading, deadbands.get(reading.tag, 0.0)):
                    shown[reading.tag] = reading
                    yield reading
        await asyncio.sleep(every.total_seconds())


def has_changed(before: Reading, now: Reading, deadband: float) -> bool:
    """Return whether a reading is another: in its quality, or by more than the deadband."""
    if before.quality != now.quality:
        return True
    if isinstance(before.value, (int, float)) and isinstance(now.value, (int, float)):
        return abs(now.value - before.value) > deadband
    return before.value != now.value


async def browse(device: Device, below: str, depth: int) -> list[dict[str, Any]]:
    """Return what an OPC UA server has below a node. Raises BadInput for another device."""
    _acting("browse")
    by_hand.set(True)
    if not isinstance(device, OpcUaServer):
        raise BadInput(
            f"{device.connection_name} speaks Modbus, which cannot tell what it has",
            hint="Its tag map comes from the device's manual.",
        )
    async with device.open() as client:
        return await client.browse(below, depth=depth)


async def offered_certificate(device: Device) -> bytes:
    """Return the certificate that an OPC UA server shows. Raises BadInput for another device."""
    if not isinstance(device, OpcUaServer) or device.security_policy == "none":
        raise BadInput(f"{device.connection_name} has no certificate: it uses no security policy")
    return await opcua_session.offered_certificate(device.connection())


def trust(device: Device, certificate: bytes) -> str:
    """Trust a server's certificate from now on; return the file that it is kept in."""
    if not isinstance(device, OpcUaServer):
        raise BadInput(f"{device.connection_name} has no certificate")
    return str(opcua_trust.trust(device.url, certificate))
