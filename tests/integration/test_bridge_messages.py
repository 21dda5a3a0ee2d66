"""The bridge's messages when the connection to the broker is cut, or the bridge is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from blocks import MqttBroker
from services import bridge_sources
from services.bridge_ledger import Ledger, Taken
from services.bridge_sources import LISTENING, WAITING, MessageListener
from smartops.drivers import mqtt
from smartops.drivers.mqtt_payload import encode
from smartops.errors import DeviceUnreachable, PrefectUnavailable
from smartops.jobs.event_sources import MessageSource
from tests import mosquitto
from tests.faulty_wire import Wire, wire_to
from tests.mosquitto import Broker

pytestmark = pytest.mark.usefixtures("home")
SOURCE = MessageSource(name="orders", broker="cut", topic="orders/#", at_most="1000/second")


class Prefect:
    """Stands for what is done with an event: it is slow, or away, or done at once."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.done: list[Any] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.begun = asyncio.Event()
        self.away = 0

    async def deal_with(self, _client: Any, _ledger: Any, _source: Any, taken: Taken) -> None:
        self.begun.set()
        await self.may_go_on.wait()
        if self.away:
            self.away -= 1
            raise PrefectUnavailable("Prefect is away")
        self.done.append(taken.event["payload"])
        self.ledger.done(taken, None)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with mosquitto.running(tmp_path_factory.mktemp("mosquitto")) as found:
        yield found


@pytest.fixture
async def wire(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    async with wire_to(broker.port, 1.0) as found:

        async def load(_kind: Any, _name: str) -> MqttBroker:
            return MqttBroker(host="127.0.0.1", port=found.port, quarantine_after=0)

        monkeypatch.setattr(bridge_sources, "load_connection", load)
        yield found


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    found = Ledger(home / "bridge.sqlite")
    yield found
    found.close()


@pytest.fixture
def prefect(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Prefect:
    found = Prefect(ledger)
    monkeypatch.setattr(bridge_sources, "deal_with", found.deal_with)
    return found


def listening(ledger: Ledger, source: MessageSource = SOURCE) -> asyncio.Task[None]:
    nothing: Any = None
    listener = MessageListener(source, ledger, nothing)
    listener.say("starting")
    return asyncio.create_task(listener.listen())


async def publish(broker: Broker, *payloads: Any, **options: Any) -> None:
    connection = mqtt.Connection("test", "127.0.0.1", broker.port)
    async with mqtt.open_broker(connection) as client:
        for payload in payloads:
            await client.publish("orders/a", encode(payload), **options)


async def until(condition: Any, what: str) -> None:
    try:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(what) from None


def clients() -> list[str]:
    """Return the threads of the source's connections."""
    return [one.name for one in threading.enumerate() if f"-{SOURCE.name}-" in one.name]


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, DeviceUnreachable):
        await task


def state(ledger: Ledger) -> Any:
    [found] = ledger.sources()
    return found


async def test_a_cut_connection_doubles_nothing(
    wire: Wire, broker: Broker, ledger: Ledger, prefect: Prefect
) -> None:
    """While the first of twenty is dealt with, the connection is lost: each counts once."""
    first = listening(ledger)
    await until(lambda: state(ledger).state == LISTENING, "it listens")
    prefect.may_go_on.clear()
    await publish(broker, *range(20))
    await asyncio.wait_for(prefect.begun.wait(), 30)
    await wire.close()
    await until(lambda: not clients(), "the cut is noticed")
    prefect.may_go_on.set()
    with pytest.raises(DeviceUnreachable):
        await asyncio.wait_for(first, 30)
    before = len(prefect.done)
    assert 1 <= before < 20, "the cut was noticed at once, or after one more"
    second = listening(ledger)
    await until(lambda: len(prefect.done) == 20, "all came")
    await publish(broker, "end")
    await until(lambda: prefect.done[-1] == "end", "and those after them")
    await ended(second)
    assert prefect.done == [*range(20), "end"]
    assert state(ledger).counts["repeated"] == before


async def test_equal_messages_are_different_ones(
    wire: Wire, broker: Broker, ledger: Ledger, prefect: Prefect
) -> None:
    """Three pulses, of which one was dealt with when the bridge was killed, are three."""
    first = listening(ledger)
    await until(lambda: state(ledger).state == LISTENING, "it listens")
    await publish(broker, "pulse")
    await until(lambda: prefect.done == ["pulse"], "the first")
    prefect.begun.clear()
    prefect.may_go_on.clear()
    await publish(broker, "pulse", "pulse")
    await asyncio.wait_for(prefect.begun.wait(), 30)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    prefect.may_go_on.set()
    second = listening(ledger)
    await publish(broker, "end")
    await until(lambda: prefect.done[-1] == "end", "the last")
    await ended(second)
    assert prefect.done == ["pulse", "pulse", "pulse", "end"]


async def test_one_id_is_one_event(
    wire: Wire, broker: Broker, ledger: Ledger, prefect: Prefect
) -> None:
    """And a message without one is refused, with the reason kept; the others go on."""
    source = SOURCE.model_copy(update={"name": "ids", "id": "{{ event.payload.order }}"})
    task = listening(ledger, source)
    await until(lambda: state(ledger).state == LISTENING, "it listens")
    orders = [{"order": "A"}, {"order": "A"}, {"order": None}, "no object", {"order": "B"}]
    await publish(broker, *orders)
    await until(lambda: len(prefect.done) == 2, "both orders")
    await ended(task)
    counts = state(ledger).counts
    assert (counts["received"], counts["repeated"], counts["refused"]) == (5, 1, 2)
    assert "gives nothing" in json.dumps(ledger.problems())


async def test_while_prefect_is_away_it_waits(
    wire: Wire, broker: Broker, ledger: Ledger, prefect: Prefect
) -> None:
    """And says so; nothing is lost, and the order is kept."""
    source = SOURCE.model_copy(update={"name": "patient"})
    task = listening(ledger, source)
    await until(lambda: state(ledger).state == LISTENING, "it listens")
    prefect.away = 2
    await publish(broker, 1, 2, 3)
    await until(lambda: state(ledger).state == WAITING, "it waits")
    await until(lambda: prefect.done == [1, 2, 3], "all came")
    assert state(ledger).state == LISTENING
    await ended(task)


async def test_retained_messages(
    wire: Wire, broker: Broker, ledger: Ledger, prefect: Prefect
) -> None:
    """They count where that is wanted, each content once, however often it connects."""
    await publish(broker, "kept", retain=True)
    try:
        for retained in (False, True, True):
            source = SOURCE.model_copy(
                update={"name": f"r-{retained}".lower(), "retained": retained}
            )
            task = listening(ledger, source)
            name = source.name
            await until(
                lambda name=name: any(
                    s.name == name and s.counts["received"] for s in ledger.sources()
                ),
                "it came",
            )
            await publish(broker, "end")
            await until(lambda: prefect.done[-1:] == ["end"], "the end")
            await ended(task)
            assert prefect.done.count("kept") == (1 if retained else 0)
            prefect.done[:] = [item for item in prefect.done if item != "end"]
    finally:
        async with mqtt.open_broker(mqtt.Connection("t", "127.0.0.1", broker.port)) as client:
            await client.publish("orders/a", b"", retain=True)
