"""What a thousand connections leave behind: sockets, threads, tasks, file handles, memory.

Each driver in one process, with each way in which a use of it can end. Beside them as the peer: an
operation that does nothing, whose growth is that of the measuring itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psutil

from benchmarks import stations
from benchmarks.stations import Stations
from smartops import errors
from smartops.drivers import modbus, mqtt, opcua, opcua_session, serial_line
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.quarantine import Patience
from smartops.drivers.tags import Tag
from smartops.settings import get_settings

RUNS, FIRST = 1000, 20
"""How often each, and how often before it is counted: pools fill and caches warm up."""
_SHORT = timedelta(seconds=0.02)
_LONG = timedelta(seconds=30)
_NEVER_LEFT_ALONE = Patience(after=0)
_LEVEL = (Tag(name="level", area="input", address=0),)
_SETTLE_S, _LOOK_S = 5.0, 0.05
_chance = random.Random(1)
Use = Callable[[], Awaitable[Any]]


@dataclass(frozen=True)
class Case:
    """A driver's use, and how it has to end."""

    name: str
    use: Use
    ends: tuple[type[BaseException], ...] = ()
    """With one of these; with none, well."""


@dataclass(frozen=True)
class Growth:
    """How much more there is than before."""

    handles: int
    """Open files and sockets."""
    threads: int
    """But for those of asyncio's pool, which stay."""
    tasks: int
    objects: int
    """Objects that the garbage collector follows."""
    memory_kib: float

    @property
    def leaks(self) -> int:
        """How many handles, threads and tasks were left behind."""
        return max(self.handles, 0) + max(self.threads, 0) + max(self.tasks, 0)


def run(home: str) -> dict[str, Any]:
    """Use each driver with each end; return what grew, and for memory how much for each use."""
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    with stations.running(home) as found:
        grown = asyncio.run(measure(cases(found), RUNS))
    table: dict[str, Any] = {
        name: {
            "handles": growth.handles,
            "threads": growth.threads,
            "tasks": growth.tasks,
            "objects_per_use": growth.objects / RUNS,
            "kib_per_use": growth.memory_kib / RUNS,
        }
        for name, growth in grown.items()
    }
    return {**table, "n": RUNS, "leaks": sum(growth.leaks for growth in grown.values())}


async def measure(chosen: list[Case], runs: int, first: int = FIRST) -> dict[str, Growth]:
    """Return what each case leaves behind after so many runs."""
    grown = {}
    for case in chosen:
        for _ in range(first):
            await _once(case)
        before = await _settled(None)
        for _ in range(runs):
            await _once(case)
        grown[case.name] = _difference(before, await _settled(before))
    return grown


async def _once(case: Case) -> None:
    """Use it; whatever ends otherwise than it has to is raised."""
    try:
        await case.use()
    except case.ends:
        return
    if case.ends:
        raise AssertionError(f"{case.name} ended well")


def _count() -> Growth:
    process = psutil.Process()
    pool = sum(thread.name.startswith("asyncio_") for thread in threading.enumerate())
    return Growth(
        process.num_fds(),
        process.num_threads() - pool,
        len(asyncio.all_tasks()),
        len(gc.get_objects()),
        process.memory_info().rss / 1024,
    )


async def _settled(before: Growth | None) -> Growth:
    """Count when all that ends by itself has ended: a thread that was told to, a late callback."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        await asyncio.sleep(_LOOK_S)
        gc.collect()
        now = _count()
        if before is None or not _difference(before, now).leaks or time.monotonic() >= deadline:
            return now


def _difference(before: Growth, now: Growth) -> Growth:
    return Growth(
        now.handles - before.handles,
        now.threads - before.threads,
        now.tasks - before.tasks,
        now.objects - before.objects,
        now.memory_kib - before.memory_kib,
    )


async def _broken_off(use: Awaitable[Any], after_s: float) -> None:
    """Break a use off in the middle, as a step's time limit or a cancelled run does."""
    async with asyncio.timeout(after_s):
        await use


def _anywhere(use: Use, within_s: float) -> Use:
    """Break a use off at any moment of the time that it takes, or not at all."""

    async def broken_off() -> None:
        with contextlib.suppress(TimeoutError, errors.DeviceTimeout):
            await _broken_off(use(), _chance.uniform(0.0, within_s))

    return broken_off


def cases(found: Stations) -> list[Case]:
    """Return all of them."""
    return [
        Case("nothing", _nothing),
        *_modbus_cases(found),
        *_rtu_cases(found),
        *_opcua_cases(found),
        *_mqtt_cases(found),
        *_serial_cases(found),
    ]


async def _nothing() -> None:
    await asyncio.sleep(0)


def _reading(connection: modbus.Connection) -> Use:
    async def read() -> None:
        async with modbus.open_device(connection) as device:
            await device.read(["level"])

    return read


def _modbus_cases(found: Stations) -> list[Case]:
    def use(port: int, timeout: timedelta = _LONG) -> Use:
        return _reading(
            modbus.Connection(
                "plc", "127.0.0.1", port, 1, timeout, _LEVEL, patience=_NEVER_LEFT_ALONE
            )
        )

    silent, full = use(found.silent), use(found.full)
    unreachable = (errors.DeviceUnreachable,)
    return [
        Case("modbus ok", use(found.modbus)),
        Case("modbus cancelled anywhere", _anywhere(use(found.modbus), 0.004)),
        Case("modbus refused", use(1), unreachable),
        Case("modbus timeout", use(found.silent, _SHORT), (errors.TransientError,)),
        Case("modbus reset", use(found.resets, _SHORT), (errors.TransientError,)),
        Case("modbus no way in", use(found.full, _SHORT), unreachable),
        Case("modbus cancelled asking", lambda: _broken_off(silent(), 0.01), (TimeoutError,)),
        Case("modbus cancelled connecting", lambda: _broken_off(full(), 0.01), (TimeoutError,)),
    ]


def _rtu_cases(found: Stations) -> list[Case]:
    def use(path: str, timeout: timedelta = _LONG) -> Use:
        return _reading(
            modbus.Connection(
                "plc",
                "",
                0,
                1,
                timeout,
                _LEVEL,
                transport="rtu",
                line=modbus.SerialLine(path, baudrate=115_200),
                late=timedelta(),
                patience=_NEVER_LEFT_ALONE,
            )
        )

    deaf = use(found.deaf, _SHORT)
    broken_off = (TimeoutError, errors.DeviceTimeout)  # on a slow machine both limits are over
    return [
        Case("rtu ok", use(found.rtu)),
        Case("rtu cancelled anywhere", _anywhere(use(found.rtu, _SHORT), 0.006)),
        Case("rtu missing", use("/dev/ttyNothing"), (errors.DeviceUnreachable,)),
        Case("rtu timeout", deaf, (errors.TransientError,)),
        Case("rtu cancelled", lambda: _broken_off(deaf(), 0.01), broken_off),
    ]


def _opcua_cases(found: Stations) -> list[Case]:
    tags = (OpcTag(name="speed", node="nsu=urn:smartops:plant:line;s=Speed"),)

    def to(url: str, timeout: timedelta = _LONG) -> opcua_session.Connection:
        return opcua_session.Connection(
            "cell", url, tags, timeout=timeout, patience=_NEVER_LEFT_ALONE
        )

    def use(url: str, timeout: timedelta = _LONG) -> Use:
        async def read() -> None:
            async with opcua.open_server(to(url, timeout)) as server:
                await server.read(["speed"])

        return read

    async def cancelled_asking() -> None:
        async with opcua.open_server(to(found.opcua)) as server:
            await _broken_off(server.read(["speed"]), 0.0)

    def at(port: int, timeout: timedelta = _LONG) -> Use:
        return use(f"opc.tcp://127.0.0.1:{port}", timeout)

    silent, full = at(found.silent), at(found.full)
    transient = (errors.TransientError,)
    return [
        Case("opcua ok", use(found.opcua)),
        Case("opcua cancelled anywhere", _anywhere(use(found.opcua), 0.015)),
        Case("opcua refused", at(1), transient),
        Case("opcua timeout", at(found.silent, _SHORT), transient),
        Case("opcua reset", at(found.resets, _SHORT), transient),
        Case("opcua no way in", at(found.full, _SHORT), transient),
        Case("opcua cancelled asking", cancelled_asking, (TimeoutError,)),
        Case("opcua cancelled greeting", lambda: _broken_off(silent(), 0.01), (TimeoutError,)),
        Case("opcua cancelled connecting", lambda: _broken_off(full(), 0.01), (TimeoutError,)),
    ]


def _mqtt_cases(found: Stations) -> list[Case]:
    def to(port: int, timeout: timedelta = _LONG, *, tls: bool = False) -> mqtt.Connection:
        return mqtt.Connection(
            "bus", "127.0.0.1", port, timeout=timeout, tls=tls, patience=_NEVER_LEFT_ALONE
        )

    def use(port: int, timeout: timedelta = _LONG, *, tls: bool = False) -> Use:
        async def publish() -> None:
            async with mqtt.open_broker(to(port, timeout, tls=tls)) as client:
                await client.publish("a", b"1")

        return publish

    async def cancelled_waiting() -> None:
        async with mqtt.open_broker(to(found.broker)) as client:
            await client.subscribe("nobody/says/anything")
            await _broken_off(client.next_message(), 0.0)

    silent, full, handshake = use(found.silent), use(found.full), use(found.silent, tls=True)
    unreachable = (errors.DeviceUnreachable,)
    with_broker = [
        Case("mqtt ok", use(found.broker)),
        Case("mqtt cancelled anywhere", _anywhere(use(found.broker), 0.006)),
        Case("mqtt cancelled waiting", cancelled_waiting, (TimeoutError,)),
    ]
    return [
        *(with_broker if found.broker else ()),
        Case("mqtt refused", use(1), unreachable),
        Case("mqtt timeout", use(found.silent, _SHORT), unreachable),
        Case("mqtt reset", use(found.resets), unreachable),
        Case("mqtt no way in", use(found.full, _SHORT), unreachable),
        Case("mqtt cancelled greeting", lambda: _broken_off(silent(), 0.01), (TimeoutError,)),
        Case("mqtt cancelled connecting", lambda: _broken_off(full(), 0.01), (TimeoutError,)),
        Case("mqtt cancelled handshake", lambda: _broken_off(handshake(), 0.05), (TimeoutError,)),
    ]


def _serial_cases(found: Stations) -> list[Case]:
    def use(port: str, timeout: timedelta = _LONG) -> Use:
        connection = serial_line.Connection(
            "scale", port, timeout=timeout, late=timedelta(), patience=_NEVER_LEFT_ALONE
        )

        async def ask() -> None:
            async with serial_line.open_line(connection) as line:
                await line.ask(b"S")

        return ask

    deaf = use(found.deaf, _SHORT)
    broken_off = (TimeoutError, errors.DeviceTimeout)  # on a slow machine both limits are over
    return [
        Case("serial ok", use(found.scale)),
        Case("serial cancelled anywhere", _anywhere(use(found.scale, _SHORT), 0.006)),
        Case("serial missing", use("/dev/ttyNothing"), (errors.DeviceUnreachable,)),
        Case("serial timeout", deaf, (errors.DeviceTimeout,)),
        Case("serial cancelled", lambda: _broken_off(deaf(), 0.01), broken_off),
        Case("socket refused", use("socket://127.0.0.1:1"), (errors.DeviceUnreachable,)),
        Case(
            "socket timeout",
            use(f"socket://127.0.0.1:{found.silent}", _SHORT),
            (errors.DeviceTimeout,),
        ),
    ]
