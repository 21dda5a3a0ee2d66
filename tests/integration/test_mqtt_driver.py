"""The MQTT driver against Mosquitto."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from blocks import MqttBroker
from smartops import errors
from smartops.drivers import mqtt
from smartops.drivers.mqtt import Connection
from smartops.drivers.mqtt_payload import decode, encode
from tests import mosquitto
from tests.conftest import free_port
from tests.faulty_wire import wire_to
from tests.mosquitto import PASSWORD, USER, Broker

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with mosquitto.running(tmp_path_factory.mktemp("mosquitto")) as found:
        yield found


@pytest.fixture(params=["5", "3.1.1"])
def connection(request: pytest.FixtureRequest, broker: Broker) -> Connection:
    limit = timedelta(seconds=3)
    return Connection("bus", "127.0.0.1", broker.port, version=request.param, timeout=limit)


async def until_started(task: asyncio.Task[Any]) -> None:
    await asyncio.wait({task}, timeout=0.3)


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_what_is_published_comes(connection: Connection, qos: Any) -> None:
    """Objects as JSON, texts as they are, bytes as hexadecimal digits; each once."""
    payloads = ({"speed": 7, "on": True}, "ON", 5, "ä", [1, None])
    async with mqtt.open_broker(connection) as listener, mqtt.open_broker(connection) as sender:
        await listener.subscribe("plant/+/state", 2)
        for payload in payloads:
            await sender.publish("plant/a/state", encode(payload), qos=qos)
        await sender.publish("plant/b/state", encode("ff00", "hex"), qos=qos)
        found = [await listener.next_message() for _ in range(6)]
    assert [message.payload for message in found] == [*payloads, "ff00"]
    assert found[-1].topic == "plant/b/state"
    assert not found[0].retained


@pytest.mark.parametrize("qos", [1, 2])
async def test_a_refused_message_is_a_failure(connection: Connection, qos: Any) -> None:
    """The library calls it published; with 3.1.1 the broker has no way to say it."""
    async with mqtt.open_broker(connection) as client:
        if connection.version == "5":
            with pytest.raises(errors.DeviceRefused, match="Not authorized"):
                await client.publish("secret/x", b"1", qos=qos)
            assert await client.publish("plant/nobody/listens", b"1") == "No matching subscribers"
        else:
            assert await client.publish("secret/x", b"1", qos=qos) == ""


async def test_a_message_expires_after_whole_seconds(broker: Broker) -> None:
    """Less than one is one; never is not zero."""
    async with mqtt.open_broker(Connection("bus", "127.0.0.1", broker.port)) as client:
        await client.publish("a", b"1", expiry=timedelta(seconds=0.2))
        with pytest.raises(errors.BadInput, match="cannot expire after 0s"):
            await client.publish("a", b"1", expiry=timedelta())


async def test_retained_messages(connection: Connection) -> None:
    """Are kept by the broker, and say so when they come."""
    topic = f"kept/{connection.version}"
    async with mqtt.open_broker(connection) as client:
        await client.publish(topic, b"42", retain=True)
    async with mqtt.open_broker(connection) as client:
        await client.subscribe(topic)
        message = await client.next_message()
        assert (message.payload, message.retained) == (42, True)
        await client.publish(topic, b"", retain=True)


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_last_will(broker: Broker, version: Any) -> None:
    """Comes when the connection ends without a goodbye, as it was said; after one it does not."""
    direct = Connection("bus", "127.0.0.1", broker.port, timeout=timedelta(seconds=20))
    topic = f"will/{version}"
    async with mqtt.open_broker(direct) as listener, wire_to(broker.port, 1) as wire:
        await listener.subscribe("will/#", 2)
        block = MqttBroker(
            host="127.0.0.1",
            port=wire.port,
            version=version,
            will_topic=topic,
            will_payload="gone",
            will_qos=2,
            will_retain=True,
        )
        async with block.open():
            pass
        async with block.open():
            await wire.close()
            found = await asyncio.wait_for(listener.next_message(), 20)
        assert (found.topic, found.payload, found.qos) == (topic, "gone", 2)
        await listener.publish("will/end", b"")
        assert (await listener.next_message()).topic == "will/end"
    async with mqtt.open_broker(direct) as later:
        await later.subscribe(topic)
        assert (await later.next_message()).retained
        await later.publish(topic, b"", retain=True)


async def test_the_delay_of_a_last_will(broker: Broker) -> None:
    """So long we may come back; the session that it needs is not kept after a goodbye."""
    loop = asyncio.get_running_loop()
    direct = Connection("bus", "127.0.0.1", broker.port, timeout=timedelta(seconds=20))

    def client(port: int, name: str) -> MqttBroker:
        topic = f"delayed/{name}"
        return MqttBroker(host="127.0.0.1", port=port, will_topic=topic, will_delay="3s")

    async with mqtt.open_broker(direct) as listener, wire_to(broker.port, 1) as wire:
        await listener.subscribe("delayed/#", 2)
        one, other = client(wire.port, "gone"), client(wire.port, "back")
        async with one.open(), other.open(session="comes-back"):
            began = loop.time()
            await wire.close()
            async with client(broker.port, "back").open(session="comes-back"):
                found = await asyncio.wait_for(listener.next_message(), 30)
        assert found.topic == "delayed/gone"
        assert loop.time() - began > 1.5
        await listener.publish("delayed/end", b"")
        assert (await listener.next_message()).topic == "delayed/end"


async def test_question_and_answer(broker: Broker) -> None:
    """The answer is known by its number; another's is not taken for it. It needs MQTT 5."""
    connection = Connection("bus", "127.0.0.1", broker.port)
    with broker.station():
        async with mqtt.open_broker(connection) as client:
            assert (await client.ask("ask/me", b"hello")).payload == "HELLO"
        async with mqtt.open_broker(replace(connection, version="3.1.1")) as client:
            with pytest.raises(errors.BadInput, match="needs MQTT 5"):
                await client.ask("ask/me", b"hello")


async def test_who_may_come_in(broker: Broker) -> None:
    """Users, wrong passwords, nobody there; a password is in no message."""
    connection = Connection("bus", "127.0.0.1", broker.users, username=USER, password=PASSWORD)
    async with mqtt.open_broker(connection) as client:
        await client.publish("a", b"1")
    for wrong in (
        replace(connection, password="wr0ng"),
        replace(connection, username=None, password=None),
    ):
        with pytest.raises(errors.AuthenticationFailed, match=r"ot authorized|Bad user") as error:
            async with mqtt.open_broker(wrong):
                pass
        assert "wr0ng" not in str(error.value) + repr(wrong)
    with pytest.raises(errors.DeviceUnreachable, match=r"no connection to 127\.0\.0\.1"):
        async with mqtt.open_broker(replace(connection, port=free_port())):
            pass


async def test_tls(broker: Broker) -> None:
    """Both sides show a certificate; a broker that nobody knows is not trusted."""
    certificate, key = broker.client_files
    connection = Connection(
        "bus",
        "127.0.0.1",
        broker.tls,
        tls=True,
        ca_file=broker.ca_file,
        client_certificate=certificate,
        client_key=key,
    )
    async with mqtt.open_broker(connection) as client:
        await client.publish("a", b"1")
    with pytest.raises(errors.UntrustedServer):
        async with mqtt.open_broker(replace(connection, ca_file=None)):
            pass
    with pytest.raises((errors.DeviceUnreachable, errors.UntrustedServer)):
        async with mqtt.open_broker(replace(connection, client_certificate=None, client_key=None)):
            pass


async def test_a_lost_connection_is_noticed_and_sends_nothing_later(
    broker: Broker, connection: Connection
) -> None:
    """The library would keep the message and send it when it is back."""
    async with mqtt.open_broker(connection) as client:
        await client.subscribe("late/#")
        waiting = asyncio.create_task(client.next_message())
        broker.stop()
        with pytest.raises(errors.DeviceUnreachable, match="connection is lost"):
            await waiting
        with pytest.raises(errors.DeviceUnreachable, match="nothing was sent") as error:
            await client.publish("late/x", b"1")
        assert error.value.not_done
        broker.start()
        async with mqtt.open_broker(connection) as listener:
            await listener.subscribe("late/#")
            task = asyncio.create_task(listener.next_message())
            await until_started(task)
            assert not task.done()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@pytest.mark.parametrize(
    ("repeatable", "expected"), [(False, "UnknownOutcome"), (True, "DeviceTimeout")]
)
async def test_without_an_acknowledgement_the_outcome_is_unknown(
    repeatable: bool, expected: str
) -> None:
    """A broker that takes the message and says nothing: it is sent once."""
    received: list[bytes] = []
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            peer.recv(1000)
            peer.sendall(bytes([0x20, 2, 0, 0]))  # CONNACK: welcome
            while chunk := peer.recv(1000):
                received.append(chunk)

    thread = threading.Thread(target=serve)
    thread.start()
    port = server.getsockname()[1]
    silent = Connection("bus", "127.0.0.1", port, version="3.1.1", timeout=timedelta(seconds=2))
    async with mqtt.open_broker(silent) as client:
        with pytest.raises(getattr(errors, expected), match="did not acknowledge"):
            await client.publish("pulse", b"once", repeatable=repeatable)
    thread.join(10)
    server.close()
    assert b"".join(received).count(b"once") == 1


async def test_somebody_who_does_not_speak_mqtt(broker: Broker) -> None:
    """Whoever answers with something else, or not at all, is an error of ours within the limit."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    with pytest.raises(errors.DeviceUnreachable, match=r"does not answer|hung up"):
        async with mqtt.open_broker(
            Connection("bus", "127.0.0.1", port, timeout=timedelta(seconds=0.5))
        ):
            pass
    server.close()


@pytest.mark.parametrize(
    ("value", "form"), [(5, "text"), ("xyz", "hex"), (5, "hex"), (float("nan"), "json")]
)
def test_a_payload_that_cannot_be_sent(value: Any, form: Any) -> None:
    """Is the user's to mend."""
    with pytest.raises(errors.BadInput):
        encode(value, form)


async def test_many_connections_leave_nothing_behind(broker: Broker) -> None:
    """Threads, sockets and tasks, over two hundred connections."""
    import psutil

    connection = Connection("bus", "127.0.0.1", broker.port)

    async def once() -> None:
        async with mqtt.open_broker(connection) as client:
            await client.publish("a", b"1")

    await once()
    process = psutil.Process()
    before = (process.num_threads(), process.num_fds(), len(asyncio.all_tasks()))
    for _ in range(20):
        await asyncio.gather(*(once() for _ in range(10)))
    now = (process.num_threads(), process.num_fds(), len(asyncio.all_tasks()))
    assert now[1:] == before[1:]
    assert now[0] <= before[0] + 8, "but for the pool's own threads"


# --- sessions that the broker keeps -------------------------------------------------------------


async def test_a_kept_session_loses_nothing(connection: Connection) -> None:
    """What comes while we are away waits; what nobody acknowledged comes again, and says so."""
    kept = replace(connection, session=f"kept-{connection.version}")
    async with mqtt.open_broker(kept) as client:
        await client.subscribe("orders/#", 1)
    async with mqtt.open_broker(connection) as sender:
        for number in range(3):
            await sender.publish("orders/a", encode(number))
        async with mqtt.open_broker(kept) as client:
            found = [await client.next_message() for _ in range(3)]
            assert [(m.payload, m.again) for m in found] == [(0, False), (1, False), (2, False)]
            client.acknowledge(found[0])
            await sender.publish("orders/a", encode(3))
            assert (await client.next_message()).payload == 3
        async with mqtt.open_broker(kept) as client:
            found = [await client.next_message() for _ in range(3)]
            assert [message.payload for message in found] == [1, 2, 3]
            assert found[0].again
            for message in found:
                client.acknowledge(message)
            await client.publish("orders/b", encode("end"))
            assert (await client.next_message()).payload == "end"


async def test_a_session_without_a_name_is_not_kept(connection: Connection) -> None:
    """Messages while nobody is there are nobody's."""
    async with mqtt.open_broker(connection) as client:
        await client.subscribe("orders/#", 1)
    async with mqtt.open_broker(connection) as sender, mqtt.open_broker(connection) as client:
        await sender.publish("orders/a", encode("before"))
        await client.subscribe("orders/#", 1)
        await sender.publish("orders/a", encode("after"))
        assert (await client.next_message()).payload == "after"


async def test_cbor(connection: Connection) -> None:
    """MQTT 5 messages say what they hold; for others the broker's connection says it."""
    value = {"speed": 7.5, "on": True, "codes": [1, None, "ä"]}
    sent = encode(value, "cbor")
    told = replace(connection, cbor=True)
    async with mqtt.open_broker(connection) as plain, mqtt.open_broker(told) as knowing:
        for client in (plain, knowing):
            await client.subscribe("cbor", 1)
        await plain.publish("cbor", sent, content_type="application/cbor")
        found = (await plain.next_message()).payload
        assert found == (value if connection.version == "5" else sent.hex())
        assert (await knowing.next_message()).payload == value
        await plain.publish("cbor", b"\xff\xff")
        assert (await knowing.next_message()).payload == "ffff"


def test_cbor_that_json_cannot_hold() -> None:
    """Bytes become hexadecimal digits, keys texts; what is no CBOR, or more than one, is bytes."""
    tagged = bytes.fromhex("a201430102036161f97e00")  # {1: h'010203', "a": NaN}
    assert decode(tagged, cbor=True) == {"1": "010203", "a": "nan"}
    for broken in ("", "a1", "0101", "fb00"):
        assert decode(bytes.fromhex(broken), cbor=True) == broken


async def test_shared_subscriptions(broker: Broker) -> None:
    """Each message comes to one of those who share."""
    connection = Connection("bus", "127.0.0.1", broker.port)
    async with mqtt.open_broker(connection) as one, mqtt.open_broker(connection) as other:
        for client in (one, other):
            await client.subscribe("$share/readers/orders/#", 1)
        for number in range(6):
            await one.publish("orders/a", encode(number))

        found: list[Any] = []

        async def collect(client: mqtt.MqttDriver) -> None:
            while True:
                found.append((await client.next_message()).payload)

        collecting = [asyncio.create_task(collect(client)) for client in (one, other)]
        async with asyncio.timeout(20):
            while len(found) < 6:
                await asyncio.sleep(0.02)
        await asyncio.wait(collecting, timeout=0.2)
        for task in collecting:
            task.cancel()
        await asyncio.gather(*collecting, return_exceptions=True)
    assert sorted(found) == list(range(6))
