"""The bridge's tags: changes count once, also when polls fail or Prefect is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from blocks import ModbusDevice
from services import bridge_sources
from services.bridge_ledger import Ledger, Taken
from services.bridge_sources import AWAY, LISTENING, WAITING, TagListener
from smartops.drivers.tags import Tag
from smartops.errors import PrefectUnavailable
from smartops.jobs.event_sources import TagSource
from tests import modbus_slave
from tests.integration.test_bridge_messages import state, until
from tests.modbus_slave import Slave

pytestmark = pytest.mark.usefixtures("home")
EVERY = timedelta(milliseconds=50)


@pytest.fixture
async def slave(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Slave]:
    async with modbus_slave.on_socket("tcp") as found:

        async def find(_name: str) -> ModbusDevice:
            return ModbusDevice(
                host="127.0.0.1",
                port=found.port,
                timeout=timedelta(seconds=0.1),
                quarantine_after=0,
                tags=[
                    Tag(name="valve", address=5, kind="u16"),
                    Tag(name="level", address=6, kind="u16", deadband=10),
                ],
            )

        monkeypatch.setattr(bridge_sources, "find", find)
        found.registers[5:7] = [0, 50]
        yield found


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    found = Ledger(home / "bridge.sqlite")
    yield found
    found.close()


class Events:
    """Keeps the events that came, while Prefect is not away."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.values: list[tuple[str, Any, int]] = []
        self.away = False

    async def deal_with(self, _client: Any, _ledger: Any, _source: Any, taken: Taken) -> None:
        if self.away:
            raise PrefectUnavailable("Prefect is away")
        event = taken.event
        self.values.append((event["tag"], event["value"], event["missed"]))
        self.ledger.done(taken, None)


@pytest.fixture
def events(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Events:
    found = Events(ledger)
    monkeypatch.setattr(bridge_sources, "deal_with", found.deal_with)
    return found


@contextlib.asynccontextmanager
async def following(ledger: Ledger, **options: Any) -> AsyncIterator[None]:
    """Follow the tags, once their values are known."""
    nothing: Any = None
    fields = {"at_most": "1000/second", "every": EVERY, **options}
    source = TagSource(name="line", device="plc", tags=["valve", "level"], **fields)
    listener = TagListener(source, ledger, nothing)
    listener.say("starting")
    task = asyncio.create_task(listener.listen())
    await until(lambda: state(ledger).counts["received"] >= 2, "the first values")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_changes_count_once(slave: Slave, ledger: Ledger, events: Events) -> None:
    """The first values are none; what is within the deadband is none."""
    async with following(ledger):
        slave.registers[5:7] = [1, 55]
        await until(lambda: events.values, "the valve")
        slave.registers[6] = 61
        await until(lambda: len(events.values) == 2, "the level")
    assert events.values == [("valve", 1, 0), ("level", 61, 0)]


async def test_a_device_that_is_away_for_a_while(
    slave: Slave, ledger: Ledger, events: Events
) -> None:
    """It is said, and what has to stand goes on standing: the change counts when it is back."""
    async with following(ledger, debounce=timedelta(seconds=0.5)):
        before = state(ledger).counts["received"]
        slave.registers[5] = 1
        await until(lambda: state(ledger).counts["received"] > before + 2, "it was seen")
        slave.fault = "no-answer"
        await until(lambda: state(ledger).state == AWAY, "it is away")
        await until(lambda: events.values, "it has stood")
        slave.fault = ""
        await until(lambda: state(ledger).state == LISTENING, "it is back")
    assert events.values == [("valve", 1, 0)]


async def test_what_changed_while_nobody_looked(
    slave: Slave, ledger: Ledger, events: Events
) -> None:
    """The bridge was down: the change counts when it is back, and once."""
    async with following(ledger):
        pass
    slave.registers[5] = 1
    async with following(ledger):
        await until(lambda: events.values, "the change")
    async with following(ledger):
        before = state(ledger).counts["received"]
        await until(lambda: state(ledger).counts["received"] > before + 4, "two more looks")
    assert events.values == [("valve", 1, 0)]


async def test_while_prefect_is_away(slave: Slave, ledger: Ledger, events: Events) -> None:
    """The line stays free for others; the latest value stands for those before it."""
    async with following(ledger):
        events.away = True
        slave.registers[5] = 1
        await until(lambda: state(ledger).state == WAITING, "it waits for Prefect")
        asked = len(slave.requests)
        for value in (2, 3, 4):
            slave.registers[5] = value
            asked = len(slave.requests)
            await until(lambda asked=asked: len(slave.requests) > asked + 2, "it goes on looking")
        events.away = False
        await until(lambda: len(events.values) == 2, "both")
    assert events.values == [("valve", 1, 0), ("valve", 4, 2)]


async def test_a_flood_is_held(slave: Slave, ledger: Ledger, events: Events) -> None:
    """One an hour: what comes faster is told as one, with the alarm that was in it."""
    async with following(ledger, at_most="1/hour", when="{{ event.value > 80 }}"):
        slave.registers[6] = 90
        await until(lambda: events.values, "the first")
        for value in (50, 95, 40):
            slave.registers[6] = value
            asked = len(slave.requests)
            await until(lambda asked=asked: len(slave.requests) > asked + 2, "it was seen")
    assert events.values == [("level", 90, 0)]
    assert state(ledger).counts["unwanted"] == 2
