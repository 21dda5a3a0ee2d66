"""MQTT over websockets: a real broker behind a web server of another make."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from blocks import MqttBroker
from smartops import errors
from smartops.drivers import mqtt
from smartops.drivers.mqtt import Connection
from smartops.drivers.mqtt_payload import encode
from tests import mosquitto
from tests.mosquitto import Broker
from tests.websocket_gateway import gateway_to

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with mosquitto.running(tmp_path_factory.mktemp("mosquitto")) as found:
        yield found


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.02)


def threads() -> int:
    """Return how many there are, but for those of the loop's pool, which stay for the next use."""
    return sum(not one.name.startswith("asyncio_") for one in threading.enumerate())


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("secured", [False, True], ids=["ws", "wss"])
async def test_messages_over_websockets(broker: Broker, version: Any, secured: bool) -> None:
    """Small and large, there and back, in frames of any size; and the server's pings are answered.

    The library's own answer to a ping makes the server hang up.
    """
    tls = None
    if secured:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(broker.folder / "server.pem", broker.folder / "server.key")
    async with gateway_to(broker.port, tls) as gateway:
        block = MqttBroker(
            host="127.0.0.1",
            port=gateway.port,
            transport="websockets",
            version=version,
            tls=secured,
            ca_file=broker.ca_file if secured else None,
            timeout=timedelta(seconds=20),
        )
        payloads = [7, "x" * 300_000, {"speed": 7}]
        async with block.open() as client:
            await client.subscribe("web/#", 2)
            await until(lambda: all(one.latency > 0 for one in gateway.open))
            for payload in payloads:
                await client.publish("web/a", encode(payload), qos=2)
            found = [(await client.next_message()).payload for _ in payloads]
            [one] = gateway.open
            assert (one.subprotocol, one.state.name) == ("mqtt", "OPEN")
    assert found == payloads


async def test_a_server_without_a_broker_at_the_path(broker: Broker) -> None:
    """Says so; and one that does not finish the handshake is given up, with nothing left behind."""
    async with gateway_to(broker.port) as gateway:
        elsewhere = MqttBroker(
            host="127.0.0.1", port=gateway.port, transport="websockets", path="/elsewhere"
        )
        with pytest.raises(errors.DeviceUnreachable, match=r"no websocket at /elsewhere: .*404"):
            async with elsewhere.open():
                pass
        assert not gateway.open
    before = threads()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = Connection(
            "bus",
            "127.0.0.1",
            silent.getsockname()[1],
            transport="websockets",
            timeout=timedelta(seconds=0.5),
        )
        with pytest.raises(errors.DeviceUnreachable, match="timed out"):
            async with mqtt.open_broker(connection):
                pass
    assert threads() <= before


async def test_a_websocket_that_is_lost(broker: Broker) -> None:
    """Is noticed at once, and nothing is sent later."""
    async with gateway_to(broker.port) as gateway:
        connection = Connection("bus", "127.0.0.1", gateway.port, transport="websockets")
        patient = replace(connection, timeout=timedelta(seconds=30))
        async with mqtt.open_broker(patient) as client:
            await client.subscribe("late/#")
            waiting = asyncio.create_task(client.next_message())
            await gateway.open[0].close()
            with pytest.raises(errors.DeviceUnreachable, match="connection is lost"):
                await asyncio.wait_for(waiting, 20)
            with pytest.raises(errors.DeviceUnreachable, match="nothing was sent") as error:
                await client.publish("late/x", b"1")
            assert error.value.not_done
