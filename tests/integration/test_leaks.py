"""Connections end in every way there is, and leave no handle, thread or task behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient

from benchmarks import leaks, stations
from benchmarks.stations import Stations
from smartops import errors
from smartops.drivers import modbus, mqtt, opcua_session, serial_line
from smartops.drivers.tags import Tag
from tests.conftest import needs

pytestmark = pytest.mark.usefixtures("home")
NOWHERE = Stations(1, "opc.tcp://127.0.0.1:1", 1, "", "", "", 1, 1, 1)
RUNS, FIRST = 6, 2
NAMES = [case.name for case in leaks.cases(NOWHERE) if case.name != "socket timeout"]
"""But for one whose library takes its time to close; `make bench BENCH=leaks` has it too."""


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """What there is already, all of Prefect, need not be looked through each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stations]:
    needs(bool(shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()), "Mosquitto")
    with stations.running(str(tmp_path_factory.mktemp("stations"))) as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
async def test_nothing_is_left_behind(found: Stations, name: str) -> None:
    """However it ends: well, refused, too late, hung up on, cancelled in the middle."""
    chosen = [case for case in leaks.cases(found) if case.name == name]
    grown = await leaks.measure(chosen, RUNS, FIRST)
    assert grown[name].leaks == 0, grown


async def test_what_is_left_behind_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket, a thread and a task that each use leaves."""
    monkeypatch.setattr(leaks, "_SETTLE_S", 0.1)
    left: list[socket.socket] = []
    tasks: list[asyncio.Task[None]] = []
    end = threading.Event()

    async def use() -> None:
        left.append(socket.socket())
        tasks.append(asyncio.create_task(asyncio.sleep(1000)))
        threading.Thread(target=end.wait).start()

    grown = (await leaks.measure([leaks.Case("careless", use)], RUNS, FIRST))["careless"]
    end.set()
    for handle, task in zip(left, tasks, strict=True):
        handle.close()
        task.cancel()
    await asyncio.wait(tasks)
    assert (grown.handles, grown.threads, grown.tasks) == (RUNS, RUNS, RUNS)
    assert grown.leaks == 3 * RUNS


@pytest.mark.parametrize("tls", [False, True])
async def test_connecting_to_a_broker_is_given_up_at_once(found: Stations, tls: bool) -> None:
    """However many wait for it: they need no thread of the pool, and leave none behind."""
    port = found.silent if tls else found.full
    limit = timedelta(seconds=30)
    connection = mqtt.Connection("bus", "127.0.0.1", port, tls=tls, timeout=limit)

    async def connect() -> None:
        async with mqtt.open_broker(connection):
            pass

    waiting = [asyncio.create_task(connect()) for _ in range(50)]
    done, _ = await asyncio.wait(waiting, timeout=0.3)
    assert not done
    began = time.monotonic()
    for task in waiting:
        task.cancel()
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
    assert time.monotonic() - began < connection.timeout.total_seconds() / 2
    with pytest.raises(errors.DeviceUnreachable, match="timed out"):
        async with mqtt.open_broker(replace(connection, timeout=timedelta(seconds=0.1))):
            pass


async def test_a_line_that_is_given_up_while_it_opens_is_closed(
    found: Stations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anybody else may open it: its lock is held until then."""
    opened = serial_line._opened
    began, may_go_on = threading.Event(), threading.Event()

    def slowly(connection: serial_line.Connection) -> Any:
        began.set()
        may_go_on.wait(30)
        return opened(connection)

    async def use() -> None:
        async with serial_line.open_line(serial_line.Connection("scale", found.scale)) as line:
            assert b"kg" in await line.ask(b"S")

    monkeypatch.setattr(serial_line, "_opened", slowly)
    given_up = asyncio.create_task(use())
    await asyncio.to_thread(began.wait, 30)
    given_up.cancel()
    next_one = asyncio.create_task(use())
    await asyncio.wait({given_up}, timeout=0.1)
    assert not given_up.done()
    may_go_on.set()
    await asyncio.wait({given_up})
    assert given_up.cancelled()
    await next_one


async def test_a_time_limit_stays_one_whatever_the_library_raises() -> None:
    """OPC UA's has a kind of cancellation of its own, for an answer that comes at that moment."""

    class WithResultError(asyncio.CancelledError):
        pass

    async def ask() -> None:
        with opcua_session.edge(connection, "reading"):
            try:
                await asyncio.sleep(30)
            except asyncio.CancelledError:
                raise WithResultError from None

    connection = opcua_session.Connection("cell", "opc.tcp://127.0.0.1:1", ())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await ask()


@pytest.mark.parametrize("call", ["connect", "execute"])
async def test_a_cancellation_is_not_lost(
    found: Stations, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The library may give the answer that comes in the moment of the cancellation all the same."""
    original = getattr(AsyncModbusTcpClient, call)

    async def answered_all_the_same(*arguments: Any) -> Any:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(30)
        return await original(*arguments)

    tags = (Tag(name="level", area="input", address=0),)
    limit = timedelta(seconds=10)
    connection = modbus.Connection("plc", "127.0.0.1", found.modbus, 1, limit, tags)
    monkeypatch.setattr(AsyncModbusTcpClient, call, answered_all_the_same)

    async def read() -> None:
        async with modbus.open_device(connection) as device:
            await device.read(["level"])

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await read()
