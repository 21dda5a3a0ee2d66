"""MQTT over a wire that fails, to a real broker: what each fault comes to."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import paho.mqtt.client as paho
import pytest
import pytest_asyncio
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from blocks import MqttBroker
from scripts.fault_table import MQTT, MQTT_OLD
from smartops import errors
from smartops.drivers import mqtt
from smartops.drivers.mqtt import Connection
from smartops.settings import get_settings
from smartops.vocabulary import Effect
from tasks import catalogue
from tests import faulty_wire, mosquitto
from tests.fault_cells import Ends, all_of, cells, check, ended, in_a_step
from tests.faulty_wire import Wire, wire_to
from tests.mosquitto import Broker

pytestmark = pytest.mark.asyncio(loop_scope="module")
LIMIT_S = 1.5
LATE_S = 2.0
PATIENCE_S = 3.0
"""How long the caller waits for a message or for an answer that does not come."""
PATIENT_S = 30.0
"""How long what ends by itself may take: all cells connect at once."""
SLACK_S = 5.0
"""How much longer a call may take on a loaded machine."""
CELLS = cells(MQTT)
OLD_CELLS = cells(MQTT_OLD)


@contextmanager
def station(port: int) -> Iterator[None]:
    """Somebody who answers what is asked below ``ask/``, as the topic says."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    ready = threading.Event()

    def answer(_client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        fault, asked = message.topic.split("/")[1], message.properties
        if MQTT.end(fault, "ask") == "UnknownOutcome":
            return  # the acknowledgement is alone on its way: what is cut in two is nothing else
        mine = (asked.CorrelationData, message.payload.upper())  # type: ignore[union-attr]
        other = (b"another", b"WRONG")
        said: dict[str, list[tuple[Any, bytes | bytearray]]] = {
            "silent": [],
            "another's": [other],
            "another's first": [other, mine],
            "answering twice": [mine, mine],
        }
        for number, text in said.get(fault, [mine]):
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = number
            topic = asked.ResponseTopic  # type: ignore[union-attr]
            client.publish(topic, text, message.qos, properties=properties)

    client.on_message = answer
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.subscribe("ask/#", 2)
    client.loop_start()
    assert ready.wait(10)
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


@asynccontextmanager
async def counted(broker: Broker) -> AsyncIterator[Counter[str]]:
    """Count what comes to whom, for as long as it lasts, and until all of it has come."""
    came: Counter[str] = Counter()
    connection = Connection("listener", "127.0.0.1", broker.port, timeout=timedelta(seconds=30))

    async def listen(client: mqtt.MqttDriver) -> None:
        while (message := await client.next_message()).topic != "end":
            came[message.topic] += 1

    async with mqtt.open_broker(connection) as client, mqtt.open_broker(connection) as other:
        for topic in ("publish/#", "ask/#", "end"):
            await client.subscribe(topic, 2)
        listening = asyncio.create_task(listen(client))
        yield came
        await other.publish("end", b"", qos=2)
        await listening


def renumbered(answer: bytes) -> bytes:
    """Return an acknowledgement as that of another message."""
    return answer[:2] + (9999).to_bytes(2, "big") + answer[4:]


@dataclass
class Trial:
    """One cell: a client at the end of a wire, about to fail."""

    fault: str
    wire: Wire
    client: mqtt.MqttDriver
    other: mqtt.MqttDriver
    """A client with a wire of its own, that does not fail."""
    prefix: str = ""
    """What tells its topics from those of the other version."""
    column: str = ""

    @property
    def end(self) -> str:
        return (MQTT_OLD if self.prefix else MQTT).end(self.fault, self.column)

    @property
    def limit_s(self) -> float:
        return LIMIT_S if self.end in {"DeviceTimeout", "UnknownOutcome"} else PATIENT_S

    @property
    def patience_s(self) -> float:
        return PATIENCE_S if self.end == "time limit" else PATIENT_S

    def begin(self) -> None:
        """Begin to fail, and to be in a hurry where time has to run out."""
        limit = timedelta(seconds=self.limit_s)
        self.client._connection = replace(self.client._connection, timeout=limit)
        self.wire.fault = self.fault if self.fault in faulty_wire.FAULTS else ""

    def topic(self, column: str) -> str:
        place = "secret" if self.fault == "refusing" else column
        return f"{place}/{self.prefix}{self.fault}"

    async def wait(self) -> str:
        """What comes is what was sent."""
        topic = self.topic("wait")
        if self.fault.startswith("request"):
            self.begin()

        async def message() -> str:
            await self.client.subscribe(topic, 2)
            self.begin()
            if self.fault != "silent":
                await self.other.publish(topic, b"7", qos=1)
            found = await asyncio.wait_for(self.client.next_message(), self.patience_s)
            assert (found.topic, found.payload) == (topic, 7)
            return "value"

        return await ended(message(), self.limit_s + self.patience_s + SLACK_S)

    async def publish(self, qos: Any) -> str:
        self.begin()

        async def publish() -> str:
            await self.client.publish(self.topic(f"publish/{qos}"), b"once", qos=qos)
            return "done"

        limits = 2 if qos == 0 else 1  # the message's own way, and the ping behind it
        return await ended(publish(), limits * self.limit_s + SLACK_S)

    async def ask(self) -> str:
        """The answer is that to this question."""
        publish = self.client.publish

        async def publish_now(*args: Any, **options: Any) -> str:
            self.begin()  # what comes before goes well
            return await publish(*args, **options)

        self.client.publish = publish_now  # type: ignore[method-assign]

        async def answer() -> str:
            asked = self.client.ask(self.topic("ask"), b"abc", repeatable=False)
            assert (await asyncio.wait_for(asked, self.patience_s)).payload == "ABC"
            return "value"

        return await ended(answer(), self.patience_s + SLACK_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMARTOPS_HOME", str(tmp_path_factory.mktemp("home")))
        get_settings.cache_clear()
        with mosquitto.running(tmp_path_factory.mktemp("mosquitto")) as found:
            yield found
    get_settings.cache_clear()


@dataclass
class Trials:
    """How each cell ended, and how often each message came."""

    ends: Ends
    old_ends: Ends
    """With 3.1.1."""
    came: Counter[str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trials(broker: Broker) -> AsyncIterator[Trials]:
    """The cells are run side by side, as most of them wait."""

    async def run(fault: str, column: str, version: mqtt.Version = "5") -> str:
        async with AsyncExitStack() as stack:
            wire = await stack.enter_async_context(wire_to(broker.port, LATE_S, renumbered))
            limit = timedelta(seconds=PATIENT_S)
            connection = Connection("bus", "127.0.0.1", wire.port, version=version, timeout=limit)
            client = await stack.enter_async_context(mqtt.open_broker(connection))
            prefix = "" if version == "5" else "old-"
            trial = Trial(fault, wire, client, other, prefix, column)
            what, _, qos = column.partition(" ")
            operation = getattr(trial, what)
            end: str = await (operation(int(qos)) if qos else operation())
        return end

    direct = Connection("other", "127.0.0.1", broker.port, timeout=timedelta(seconds=30))
    async with mqtt.open_broker(direct) as other:
        async with counted(broker) as came:
            with station(broker.port):
                ends = await all_of(run, CELLS)
            old_ends = await all_of(partial(run, version="3.1.1"), OLD_CELLS)
        yield Trials(ends, old_ends, came)


@pytest.mark.parametrize(("fault", "column"), CELLS)
async def test_each_fault_comes_to_what_the_table_says(
    trials: Trials, fault: str, column: str
) -> None:
    """Within the timeout; never to another's answer, and never to a second message."""
    check(MQTT, trials.ends, (fault, column))
    came = trials.came[f"{column.replace(' ', '/')}/{fault}"]
    _no_more_than_once(fault, column, trials.ends, came)


@pytest.mark.parametrize(("fault", "column"), OLD_CELLS)
async def test_each_fault_with_the_older_version(trials: Trials, fault: str, column: str) -> None:
    """The same with 3.1.1, but that a refusal is not told."""
    check(MQTT_OLD, trials.old_ends, (fault, column))
    came = trials.came[f"{column.replace(' ', '/')}/old-{fault}"]
    if fault != "refusing":
        _no_more_than_once(fault, column, trials.old_ends, came)


def _no_more_than_once(fault: str, column: str, ends: Ends, came: int) -> None:
    assert came <= 1
    if column != "wait":
        end = ends[fault, column]
        if end == "DeviceRefused" or fault in {"request-lost", "request-reset"}:
            assert came == 0
        elif end in {"done", "value"}:
            assert came == 1 or (fault, column) == ("refusing", "publish 0")


async def test_a_broker_that_takes_nothing_more(broker: Broker) -> None:
    """What does not go out is given up in the end: the library would wait for a minute."""
    limit = timedelta(seconds=1)
    loop = asyncio.get_running_loop()
    async with wire_to(broker.port, LATE_S) as wire:
        connection = Connection("bus", "127.0.0.1", wire.port, timeout=limit)
        began = loop.time()
        async with mqtt.open_broker(connection) as client:
            wire.fault = "stuck"
            with pytest.raises(errors.UnknownOutcome):
                await client.publish("stuck", bytes(16_000_000))
        assert loop.time() - began < 2 + SLACK_S


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_a_broker_that_starts_again(broker: Broker, qos: Any) -> None:
    """What it had not acknowledged is unknown at once, and not sent to it again."""
    patient = Connection("bus", "127.0.0.1", broker.port, timeout=timedelta(seconds=30))
    topic = f"publish/{qos}/restart"
    async with (
        wire_to(broker.port, LATE_S) as wire,
        mqtt.open_broker(replace(patient, port=wire.port)) as client,
    ):
        wire.fault = "answer-lost"
        publishing = asyncio.create_task(client.publish(topic, b"once", qos=qos))
        async with asyncio.timeout(30):
            while not wire.answers:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(broker.stop)
        with pytest.raises(errors.UnknownOutcome):
            await publishing
        await asyncio.to_thread(broker.start)
        wire.fault = ""
        async with counted(broker) as came, mqtt.open_broker(patient) as other:
            await other.publish("publish/0/other", b"")
    assert came == {"publish/0/other": 1}


async def test_a_question_that_was_not_sent_is_not_in_doubt(broker: Broker) -> None:
    """As long as nobody says that the answer may come, nothing is asked."""
    async with wire_to(broker.port, LATE_S) as wire:
        block = MqttBroker(host="127.0.0.1", port=wire.port, timeout=timedelta(seconds=2))
        wire.fault = "second-answer-lost"  # the first one lets the client in
        with in_a_step(Effect.UNSAFE) as record, pytest.raises(errors.DeviceTimeout):
            await catalogue.load()["mqtt.ask"].function(block, "ask/me")
    assert record.touched is False
