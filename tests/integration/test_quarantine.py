"""What does not answer is left alone, so that it holds up nobody; and taken back when it answers.

Against devices that are dead, away, or come back, over every protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from smartops import errors
from smartops.audit import alert_tables, models, recording
from smartops.audit.events import NO_RUN
from smartops.audit.recording import RunInfo, recorded_run
from smartops.audit.store import Store
from smartops.drivers import modbus, mqtt, opcua, opcua_session, quarantine, serial_line
from smartops.drivers.quarantine import Change, Patience, Quarantine
from smartops.drivers.tags import Tag
from smartops.settings import get_settings
from tests import modbus_slave
from tests.conftest import free_port
from tests.integration.test_audit import a_run, rows, ship
from tests.modbus_slave import Slave

pytestmark = pytest.mark.usefixtures("home")
LEVEL = (Tag(name="level", address=5, kind="u16"),)


class Told:
    """Keeps what was told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    @property
    def states(self) -> list[str]:
        return [change.state for change in self.changes]

    def patience(self, **options: Any) -> Patience:
        return Patience(tell=self.changes.append, **options)


def pause_s(place: Quarantine) -> float:
    with pytest.raises(errors.DeviceQuarantined) as refused:
        place.check()
    assert refused.value.retry_after is not None
    return refused.value.retry_after.total_seconds()


async def wait_until_due(place: Quarantine) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return place.check()
            except errors.DeviceQuarantined:
                await asyncio.sleep(0.02)


def test_after_how_many_failures() -> None:
    """An answer in between starts the count again; what is entered and left is told once."""
    told = Told()
    place = Quarantine("plc", "modbus://x:502", "unit 3", told.patience(after=3))
    for _ in range(2):
        place.begin()
        place.unanswered("no answer in 3 s")
    place.answered()
    for _ in range(2):
        place.begin()
        place.unanswered("no answer in 3 s")
        place.check()
    assert told.changes == []
    for _ in range(3):
        place.begin()
        place.unanswered("no answer in 3 s")
    assert told.states == ["quarantined"]
    with pytest.raises(errors.DeviceQuarantined) as refused:
        Quarantine("plc", "modbus://x:502", "unit 3", told.patience()).check()
    assert "plc (unit 3): left alone since" in refused.value.one_line
    assert "smartops device check plc" in refused.value.one_line
    assert refused.value.not_done
    Quarantine("plc", "modbus://x:502", "unit 4", told.patience()).check()
    place.answered()
    place.answered()
    place.check()
    assert told.states == ["quarantined", "back"]
    assert (told.changes[1].failures, told.changes[1].reason) == (5, "no answer in 3 s")


def test_it_is_left_alone_for_longer_each_time() -> None:
    """Twice as long, with some chance in it, up to the limit."""
    place = Quarantine("plc", "modbus://x:502", "", Patience(2, timedelta(seconds=50)))
    pauses = []
    for _ in range(7):
        place.begin()
        place.unanswered("gone")
        with contextlib.suppress(errors.DeviceQuarantined):
            place.check()
            continue
        pauses.append(pause_s(place))
    for pause, middle in zip(pauses, [10, 20, 40, 50, 50, 50], strict=True):
        assert 0.79 * middle < pause < 1.21 * middle
    assert len(set(pauses[3:])) == 3


def test_never() -> None:
    """With ``after: 0`` nothing is ever left alone, and nothing told."""
    told = Told()
    place = Quarantine("plc", "modbus://x:502", "", told.patience(after=0))
    for _ in range(20):
        place.unanswered("gone")
        place.claim()
    assert told.changes == []


def test_a_clock_that_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not leave a device alone for longer than ever."""
    place = Quarantine("plc", "modbus://x:502", "", Patience(1, timedelta(seconds=30)))
    place.unanswered("gone")
    real = time.time
    monkeypatch.setattr("smartops.drivers.quarantine.time.time", lambda: real() - 3600)
    place.check()


def test_a_note_cut_by_a_full_disk(home: Path) -> None:
    """It counts for nothing."""
    place = Quarantine("plc", "modbus://x:502", "", Patience(1))
    place.unanswered("gone")
    [note] = (home / "wires").iterdir()
    note.write_text('{"device": "pl')
    place.check()
    assert quarantine.quarantined() == []


def test_waiting_that_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of it in a row as an answer may take is one time without an answer."""
    told, now = Told(), [1000.0]
    monkeypatch.setattr("smartops.drivers.quarantine.time.time", lambda: now[0])
    places = [Quarantine("plc", "modbus://x:502", "", told.patience(after=2)) for _ in range(3)]
    place, answer = places[0], timedelta(seconds=3)

    def wait(seconds: float) -> None:
        for together in places:
            together.begin()
        now[0] += seconds
        for together in places:  # who has waited at the same time has not waited for longer
            together.broken_off(answer)

    for _ in range(10):
        wait(2)
        place.answered()
    for seconds in (0.5, 2, 0.4, 2):
        wait(seconds)
        place.check()
    wait(1)
    place.check()
    wait(0.2)
    assert [(change.state, change.failures) for change in told.changes] == [("quarantined", 2)]
    assert "no answer in 3 s" in told.changes[0].reason


async def test_one_tries_for_all() -> None:
    """Whoever finds that the time has come takes the try; the others go on leaving it alone."""
    patience = Patience(1, timedelta(seconds=1))
    one, other = (Quarantine("plc", "modbus://x:502", "", patience) for _ in range(2))
    one.unanswered("gone")
    await wait_until_due(one)
    other.check()
    one.claim()
    with pytest.raises(errors.DeviceQuarantined):
        other.claim()
    with pytest.raises(errors.DeviceQuarantined):
        other.check()


async def test_a_person_may_always_try() -> None:
    """Who stands before the device wants to know how it is now; an answer ends the quarantine."""
    async with modbus_slave.on_socket("tcp") as slave:
        slave.fault = "no-answer"
        told = Told()
        connection = to(slave.port, told.patience(after=1))
        with pytest.raises(errors.DeviceTimeout):
            await level(connection)
        slave.fault = ""
        with pytest.raises(errors.DeviceQuarantined):
            await level(connection)
        asked = quarantine.by_hand.set(True)
        assert await level(connection) == 1005
        quarantine.by_hand.reset(asked)
        assert await level(connection) == 1005
        assert told.states == ["quarantined", "back"]


def to(port: int, patience: Patience, unit: int = 1) -> modbus.Connection:
    timeout = timedelta(seconds=1)
    connection = modbus.Connection(f"plc-{unit}", "127.0.0.1", port, unit, timeout, LEVEL)
    return replace(connection, patience=patience)


async def level(connection: modbus.Connection) -> Any:
    async with modbus.open_device(connection) as device:
        return (await device.read(["level"]))[0].value


@pytest.mark.parametrize("fault", ["no-answer", "exception-11"])
async def test_a_dead_unit_beside_others(fault: str) -> None:
    """It is not asked any more; its neighbours are, and it is taken back when it answers."""
    async with modbus_slave.on_socket("tcp") as slave:
        slave.dead = frozenset({3})
        slave.fault = fault
        told = Told()
        patience = told.patience(after=2, longest=timedelta(seconds=1))
        dead, alive = to(slave.port, patience, 3), to(slave.port, patience, 1)
        for _ in range(2):
            with pytest.raises((errors.DeviceTimeout, errors.DeviceBusy)):
                await level(dead)
        asked = len(slave.requests)
        with pytest.raises(errors.DeviceQuarantined):
            await level(dead)
        assert len(slave.requests) == asked
        assert await level(alive) == 1005
        [note] = quarantine.quarantined()
        assert (note.device, note.part, note.failures) == ("plc-3", "unit 3", 2)
        await wait_until_due(dead.quarantine)
        with pytest.raises((errors.DeviceTimeout, errors.DeviceBusy)):
            await level(dead)
        slave.dead = frozenset()
        slave.fault = ""
        await wait_until_due(dead.quarantine)
        assert await level(dead) == 1005
        assert told.states == ["quarantined", "back"]
        assert quarantine.quarantined() == []


async def test_a_refusal_is_an_answer() -> None:
    """A device that refuses, or is busy, lives."""
    async with modbus_slave.on_socket("tcp") as slave:
        for fault in ("no-answer", "exception-6", "exception-4", "no-answer", "exception-1"):
            slave.fault = fault
            connection = to(slave.port, Patience(2))
            if fault in {"no-answer", "exception-6"}:
                with pytest.raises((errors.DeviceTimeout, errors.DeviceBusy)):
                    await level(connection)
            else:
                await level(connection)
        connection.quarantine.check()


@pytest.mark.parametrize("protocol", ["modbus", "opcua", "mqtt", "serial", "serial-tcp"])
async def test_what_cannot_be_reached(protocol: str, tmp_path: Path) -> None:
    """The wire as a whole is left alone, whatever is spoken on it."""
    told, port = Told(), free_port()
    patience = told.patience(after=2)
    second = timedelta(seconds=1)
    line = f"socket://127.0.0.1:{port}" if protocol == "serial-tcp" else str(tmp_path / "tty")

    def opened() -> AbstractAsyncContextManager[Any]:
        if protocol == "modbus":
            return modbus.open_device(to(port, patience))
        if protocol == "opcua":
            url = f"opc.tcp://127.0.0.1:{port}"
            return opcua.open_server(
                opcua_session.Connection("it", url, (), timeout=second, patience=patience)
            )
        if protocol == "mqtt":
            return mqtt.open_broker(
                mqtt.Connection("it", "127.0.0.1", port, timeout=second, patience=patience)
            )
        return serial_line.open_line(serial_line.Connection("it", line, patience=patience))

    for _ in range(2):
        with pytest.raises(errors.DeviceUnreachable):
            async with opened():
                pass
    with pytest.raises(errors.DeviceQuarantined):
        async with opened():
            pass
    [change] = told.changes
    assert (change.part, change.state) == ("", "quarantined")


@pytest.mark.parametrize("protocol", ["modbus", "opcua", "mqtt", "serial"])
async def test_steps_that_wait_for_less_than_an_answer_may_take(protocol: str) -> None:
    """What is dead is found out all the same, also where each step ends by its own limit."""
    told = Told()
    limits: Any = {"timeout": timedelta(seconds=0.6), "patience": told.patience(after=2)}

    async def ask(slave: Slave, silent: int) -> None:
        if protocol == "modbus":
            await level(replace(to(slave.port, limits["patience"]), timeout=limits["timeout"]))
        elif protocol == "serial":
            late = timedelta(seconds=0.05)
            line = serial_line.Connection("it", slave.path, late=late, **limits)
            async with serial_line.open_line(line) as opened:
                await opened.ask(b"W?")
        elif protocol == "opcua":
            url = f"opc.tcp://127.0.0.1:{silent}"
            async with opcua.open_server(opcua_session.Connection("it", url, (), **limits)):
                pass
        else:
            async with mqtt.open_broker(mqtt.Connection("it", "127.0.0.1", silent, **limits)):
                pass

    place = modbus_slave.on_pty() if protocol == "serial" else modbus_slave.on_socket("tcp")
    with socket.create_server(("127.0.0.1", 0)) as server:
        async with place as slave:
            slave.fault = "no-answer"
            for _ in range(20):
                if told.changes:
                    break
                with contextlib.suppress(TimeoutError, errors.DeviceTimeout):
                    async with asyncio.timeout(0.3):
                        await ask(slave, server.getsockname()[1])
            with pytest.raises(errors.DeviceQuarantined):
                await ask(slave, server.getsockname()[1])
    assert told.states == ["quarantined"]


async def test_a_scale_that_is_switched_off() -> None:
    """The line is there, and nothing answers; who only listens has not asked for an answer."""
    async with modbus_slave.on_pty() as slave:
        told = Told()
        connection = serial_line.Connection(
            "scale",
            slave.path,
            timeout=timedelta(seconds=0.05),
            patience=told.patience(after=2),
        )
        for _ in range(3):
            async with serial_line.open_line(connection) as line:
                with pytest.raises(errors.DeviceTimeout):
                    await line.listen(timedelta(seconds=0.05), None)
        for _ in range(2):
            async with serial_line.open_line(connection) as line:
                with pytest.raises(errors.DeviceTimeout):
                    await line.ask(b"")
        with pytest.raises(errors.DeviceQuarantined):
            async with serial_line.open_line(connection):
                pass
        assert [change.part for change in told.changes] == ["device scale"]


def test_failures_at_the_same_time_count_once() -> None:
    """Ten who are under way when a server goes have not found it away ten times in a row."""
    told = Told()
    many = [Quarantine("plc", "opcua://x:4840", "", told.patience(after=3)) for _ in range(10)]
    for place in many:
        place.begin()
    for place in many:
        place.unanswered("gone")
    many[0].check()
    for _ in range(2):
        many[0].begin()
        many[0].unanswered("gone")
    assert [(change.state, change.failures) for change in told.changes] == [("quarantined", 3)]


@pytest.mark.parametrize("in_a_run", [True, False])
def test_it_stands_on_record(store: Store, in_a_run: bool) -> None:
    """One row for each change, with the run that found it out, and an alert for each."""
    info: RunInfo | None = a_run() if in_a_run else None
    place = Quarantine(
        "plc", "modbus://x:502", "unit 3", Patience(1, tell=recording.device_changed)
    )
    if info is None:
        place.unanswered("no answer in 3 s")
        place.answered()
    else:
        with recorded_run(info):
            place.unanswered("no answer in 3 s")
            place.answered()
    ship(store)
    run_id = NO_RUN if info is None else info.id
    gone, back = rows(store, models.device_change)
    assert (gone["device"], gone["part"], gone["state"]) == ("plc", "unit 3", "quarantined")
    assert (back["state"], back["since"], back["run_id"]) == ("back", gone["since"], run_id)
    alerts = rows(store, alert_tables.alert)
    assert [(alert["rule"], alert["severity"]) for alert in alerts] == [
        ("device-quarantined", "warning"),
        ("device-back", "info"),
    ]
    assert "plc (unit 3) does not answer" in alerts[0]["title"]


def test_the_notes_are_the_homes_own(home: Path) -> None:
    """Each home folder knows for itself."""
    Quarantine("plc", "modbus://x:502", "", Patience(1)).unanswered("gone")
    assert [note.device for note in quarantine.quarantined()] == ["plc"]
    assert get_settings().home == home
