"""The line at the plant's MQTT broker: it tells its state, and obeys commands.

It speaks by the library and not by our driver, so that a mistake in the driver shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import math
from collections.abc import Callable
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from smartops.plant.addresses import HOST
from smartops.plant.faults import Faults, PlantLog
from smartops.plant.following import Follower
from smartops.plant.line import MAX_SPEED, Line

STATUS, STATE, COUNTS, COMMAND = (
    f"plant/line/{name}" for name in ("status", "state", "counts", "command")
)
_LOOK_S = 0.05
_TELL_S = 1.0
_KEEPALIVE_S = 30
_CALLBACKS = ("on_connect", "on_disconnect", "on_subscribe", "on_message")


class Commands:
    """What the line does when it is told to."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self.samples = 0

    def obey(self, payload: bytes) -> dict[str, Any]:
        """Carry a command out and return the answer: ``done``, and the result or a ``reason``.

        ``{"command": "set-speed", "speed": 0 to 300}``, ``{"command": "reset-counters"}`` or
        ``{"command": "sample", "kg": a number}``.
        """
        try:
            asked = json.loads(payload)
        except ValueError:
            return _refused("a command is a JSON object")
        match asked:
            case {"command": "set-speed", "speed": int(speed)} if _is_speed(speed):
                self._line.speed_setpoint = speed
                return {"done": True, "speed_setpoint": speed}
            case {"command": "reset-counters"}:
                counted = {"good": self._line.good, "scrap": self._line.scrap}
                self._line.reset_counters()
                return {"done": True, **counted}
            case {"command": "sample", "kg": int() | float() as kg} if _is_weight(kg):
                self.samples += 1
                return {"done": True, "sample": self.samples, "batch": self._line.batch}
            case {"command": "set-speed" | "sample" as name}:
                return _refused(f"{name} lacks its value, or that is out of range")
        return _refused("the line knows set-speed, reset-counters and sample")


def _is_speed(speed: int) -> bool:
    return not isinstance(speed, bool) and 0 <= speed <= MAX_SPEED


def _is_weight(kg: float) -> bool:
    return not isinstance(kg, bool) and math.isfinite(kg)


def _refused(reason: str) -> dict[str, Any]:
    return {"done": False, "reason": reason}


class Broker(Protocol):
    """What the line has to know of its broker."""

    @property
    def port(self) -> int:
        """Its port on the loopback interface."""

    @property
    def listens(self) -> bool:
        """Whether it, and not another plant's, is there."""


class LineClient(Follower):
    """The line's connection. It comes back by itself when it was lost.

    Retained: ``plant/line/status``, online or offline by its last will, and ``plant/line/state``,
    each second. ``plant/line/counts`` comes when they change. Commands go to ``plant/line/command``
    and are answered where the question says so (MQTT 5).
    """

    def __init__(self, line: Line, faults: Faults, log: PlantLog, broker: Broker) -> None:
        self._line, self._faults, self._log, self._broker = line, faults, log, broker
        self._commands = Commands(line)
        self._client: paho.Client | None = None
        self._lost = self._listens = False
        self._told: dict[str, int] = {}
        self.ready = asyncio.Event()
        """Set once it has told its state, and hears commands."""

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        tell_at = loop.time()
        while True:
            away = "line-away" in self._faults
            if away or self._lost:
                await self._leave()
            if self._client is None and self._broker.listens and not away:
                await self._join()
            if self._listens and loop.time() >= tell_at:
                self._tell()
                self.ready.set()
                tell_at = loop.time() + _TELL_S
            await asyncio.sleep(_LOOK_S)

    # --- the connection --------------------------------------------------------------------------

    async def _join(self) -> None:
        """Connect, unless the broker has just gone."""
        client = self._new_client()
        try:
            await asyncio.to_thread(client.connect, HOST, self._broker.port, _KEEPALIVE_S)
        except OSError:
            return
        self._client = client
        client.loop_start()

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id="line",
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        client.will_set(STATUS, "offline", 1, retain=True)
        client.on_connect = self._from_thread(self._on_connect)
        client.on_disconnect = self._from_thread(self._on_disconnect)
        client.on_subscribe = self._from_thread(self._on_subscribe)
        client.on_message = self._from_thread(self._on_message)
        return client

    def _from_thread(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return a callback that hands over to the loop; it never raises into the library."""
        loop = asyncio.get_running_loop()

        @functools.wraps(callback)
        def hand_over(client: paho.Client, _userdata: Any, *arguments: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the plant has ended
                loop.call_soon_threadsafe(callback, client, *arguments)

        return hand_over

    async def _leave(self) -> None:
        """Disconnect in a way that the broker makes the last will known."""
        client, self._client = self._client, None
        self._lost = self._listens = False
        if client is not None:
            await asyncio.shield(asyncio.to_thread(_end, client))

    def _on_connect(self, client: paho.Client, _flags: Any, reason: ReasonCode, _: Any) -> None:
        if client is self._client and not reason.is_failure:
            client.subscribe(COMMAND, 1)

    def _on_subscribe(self, client: paho.Client, *_: Any) -> None:
        if client is self._client:
            self._listens = True
            self._told = {}
            client.publish(STATUS, "online", 1, retain=True)

    def _on_disconnect(self, client: paho.Client, *_: Any) -> None:
        if client is self._client:
            self._lost = True

    # --- what is said -----------------------------------------------------------------------------

    def _tell(self) -> None:
        """Publish the state; and the counts, where they have changed."""
        if self._client is None:
            return
        now = self._line.snapshot()
        state = {
            "state": "running" if now.speed >= 1 else "stopped",
            "speed": now.speed,
            "speed_setpoint": now.speed_setpoint,
            "temperature": now.temperature,
            "tank_level": now.tank_level,
            "alarms": now.alarms,
            "batch": self._line.batch,
        }
        self._client.publish(STATE, json.dumps(state), 1, retain=True)
        counts = {"good": now.good, "scrap": now.scrap}
        if counts != self._told:
            self._told = counts
            self._client.publish(COUNTS, json.dumps(counts), 1)

    def _on_message(self, client: paho.Client, message: paho.MQTTMessage) -> None:
        """Obey a command and answer it; one that was kept from earlier is none."""
        if message.retain or client is not self._client:
            return
        answer = self._commands.obey(bytes(message.payload))
        said = message.payload.decode("utf-8", "replace")
        self._log.add("mqtt.command", payload=said, done=answer["done"])
        self._tell()
        asked: Any = message.properties
        answer_to = getattr(asked, "ResponseTopic", None)
        if answer_to is None or "line-mute" in self._faults:
            return
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        if (number := getattr(asked, "CorrelationData", None)) is not None:
            properties.CorrelationData = number
        with contextlib.suppress(ValueError):  # a topic that is none
            client.publish(answer_to, json.dumps(answer), message.qos, properties=properties)


def _end(client: paho.Client) -> None:
    with contextlib.suppress(Exception):  # what is not connected cannot say goodbye
        client.disconnect(ReasonCode(PacketTypes.DISCONNECT, "Disconnect with will message"))
    client.loop_stop()
    # It closes its last sockets when nothing refers to it any more, and these go around.
    for name in _CALLBACKS:
        setattr(client, name, None)
