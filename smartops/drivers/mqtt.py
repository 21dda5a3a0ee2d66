"""MQTT 5 and 3.1.1: publish with the broker's answer, wait for messages, ask and be answered.

The library calls a refused message published, keeps what it could not send for later, tries wrong
passwords for ever, and stops for good when a callback raises: all of that is taken care of here.
No exception of its leaves this module.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from smartops import errors
from smartops.drivers import mqtt_client, mqtt_wire
from smartops.drivers.exchanges import exchange
from smartops.drivers.mqtt_client import Client, publish_properties
from smartops.drivers.mqtt_connection import Connection, Message, Qos, Version, tls_context
from smartops.drivers.mqtt_payload import CBOR, decode
from smartops.drivers.quarantine import Quarantine
from smartops.rehearsal import check_host

__all__ = ["NOT_SENT", "Connection", "Message", "MqttDriver", "Qos", "Version", "open_broker"]
_LOGIN = (134, 135, 140)
"""Bad user name or password, not authorized, bad authentication method."""
NOT_SENT = (errors.BadInput, errors.DeviceUnreachable, errors.DeviceRefused)
"""After these nothing has come to anybody: it was not sent, or the broker has refused it."""
_HUNG_UP = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
"""It may be there again later, and who it is was not in question."""
_MOST_WAITING = 1000
_KEEPALIVE_S = 30
_ANSWERS = "smartops/answers"
_CALLBACKS = ("on_connect", "on_disconnect", "on_publish", "on_subscribe", "on_message", "heard")
logger = logging.getLogger(__name__)


@asynccontextmanager
async def open_broker(connection: Connection) -> AsyncIterator[MqttDriver]:
    """Connect, and disconnect at the end, whatever happens.

    Raises DeviceUnreachable, DeviceQuarantined, AuthenticationFailed, UntrustedServer.
    """
    check_host(connection.name, connection.host)
    quarantine = Quarantine(connection.name, connection.resource, "", connection.patience)
    quarantine.claim()
    driver = MqttDriver(connection)
    try:
        with quarantine.trial(connection.timeout):
            await driver.connect()
        yield driver
    finally:
        await driver.disconnect()


class MqttDriver:
    """An open connection. It does not come back by itself: a step that loses it fails."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._connected: asyncio.Future[ReasonCode] = self._loop.create_future()
        self._lost: asyncio.Future[str] = self._loop.create_future()
        self._acknowledged: dict[int, asyncio.Future[ReasonCode | None]] = {}
        self._subscribed: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self._messages: asyncio.Queue[Message] = asyncio.Queue(_MOST_WAITING)
        self._client = self._new_client()

    def _new_client(self) -> Client:
        connection = self._connection
        five = connection.version == "5"
        client = Client(
            CallbackAPIVersion.VERSION2,
            # Two of one name would throw each other out.
            client_id=connection.session or f"smartops-{uuid4().hex[:12]}",
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            clean_session=None if five else not connection.session,
            reconnect_on_failure=False,
            manual_ack=bool(connection.session),
        )
        client.connect_timeout = connection.timeout.total_seconds()
        if connection.username is not None:
            client.username_pw_set(connection.username, connection.password)
        mqtt_client.set_last_will(client, connection)
        client.on_connect = self._from_thread(self._on_connect)
        client.on_disconnect = self._from_thread(self._on_disconnect)
        client.on_publish = self._from_thread(self._on_publish)
        client.on_subscribe = self._from_thread(self._on_subscribe)
        client.on_message = self._from_thread(self._on_message)
        return client

    def _from_thread(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Return a callback that hands over to the loop; it never raises into the library."""

        @functools.wraps(callback)
        def hand_over(_client: paho.Client, _userdata: Any, *arguments: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(callback, *arguments)

        return hand_over

    # --- what the library tells, in the loop ---------------------------------------------------

    def _on_connect(self, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        _give(self._connected, reason)

    def _on_disconnect(self, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        _give(self._lost, str(reason))

    def _on_publish(self, mid: int, reason: ReasonCode, _properties: Any) -> None:
        if mid in self._acknowledged:
            _give(self._acknowledged.pop(mid), reason)

    def _on_subscribe(self, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        if mid in self._subscribed:
            _give(self._subscribed.pop(mid), reasons)

    def _on_message(self, message: paho.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        kind = getattr(message.properties, "ContentType", None)
        cbor = self._connection.cbor if kind is None else kind == CBOR
        found = Message(
            message.topic,
            decode(bytes(message.payload), cbor=cbor),
            message.qos,
            message.retain,
            datetime.now(UTC),
            correlation,
            message.mid,
            message.dup,
        )
        if self._messages.full():
            self._messages.get_nowait()
            logger.warning("%s: a message was dropped: %s waited", self.name, _MOST_WAITING)
        self._messages.put_nowait(found)

    # --- connecting ------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The connection's name."""
        return self._connection.name

    @property
    def _where(self) -> str:
        return f"{self._connection.host}:{self._connection.port}"

    async def connect(self) -> None:
        """Connect, and wait until the broker has let us in."""
        connection, limit_s = self._connection, self._connection.timeout.total_seconds()
        try:
            tls = tls_context(connection) if connection.tls else None
            path = connection.path if connection.transport == "websockets" else None
            self._client.wire = await mqtt_wire.reach(
                connection.host, connection.port, limit_s, tls, path
            )
            self._client.connect(
                connection.host,
                connection.port,
                _KEEPALIVE_S,
                **mqtt_client.session_options(connection),
            )
        except (OSError, ValueError) as error:
            if isinstance(error, ssl.SSLError) and not isinstance(error, _HUNG_UP):
                raise errors.UntrustedServer(f"{self.name}: {self._where}: {error}") from error
            raise errors.DeviceUnreachable(
                f"{self.name}: no connection to {self._where}: {error}"
            ) from error
        self._client.loop_start()
        await self._settled(self._connected, limit_s)
        if not self._connected.done():
            lost = self._lost.done()
            raise errors.DeviceUnreachable(
                f"{self.name}: {self._where} {'hung up' if lost else 'does not answer'}"
            )
        reason = self._connected.result()
        if reason.is_failure:
            said = f"{self.name}: {self._where} refuses the connection: {reason}"
            if reason.value in _LOGIN:
                raise errors.AuthenticationFailed(said)
            raise errors.DeviceUnreachable(said)

    async def disconnect(self) -> None:
        """Say goodbye and end the library's thread."""
        await asyncio.shield(self._leave())

    async def _leave(self) -> None:
        with contextlib.suppress(Exception):  # what is not connected cannot say goodbye
            goodbye = mqtt_client.goodbye_options(self._connection)
            if self._client.disconnect(**goodbye) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                await self._settled(self._lost, self._connection.timeout.total_seconds())
        found: Any = self._client.socket()
        if found is not None and not self._lost.done():
            # What it still has to send does not go out, and its thread would wait for that.
            with contextlib.suppress(OSError):
                found.shutdown(socket.SHUT_RDWR)
        await asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._client.loop_stop()
        if self._client.wire is not None:
            self._client.wire.close()
        # It closes its last sockets when nothing refers to it any more, and these go around.
        for name in _CALLBACKS:
            setattr(self._client, name, None)
        del self._client

    async def _settled(self, future: asyncio.Future[Any], limit_s: float) -> None:
        """Wait until the future is done, the connection is lost, or the time is over."""
        await asyncio.wait(
            {future, self._lost}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED
        )

    # --- publishing ------------------------------------------------------------------------------

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: Qos = 1,
        retain: bool = False,
        expiry: timedelta | None = None,
        repeatable: bool = False,
        answer_to: str | None = None,
        correlation: bytes | None = None,
        content_type: str | None = None,
    ) -> str:
        """Publish once, and return what the broker said: "" where it says nothing (QoS 0, 3.1.1).

        A message of QoS 0 is not acknowledged; that it came to the broker is known from the answer
        to a ping that is sent behind it.

        Raises DeviceRefused for what the broker refuses, DeviceUnreachable when nothing was sent,
        and UnknownOutcome when it may have come there (DeviceTimeout where it is repeatable).
        """
        properties = publish_properties(
            self._connection, expiry, answer_to, correlation, content_type
        )
        what = f"{self.name}: publishing to {topic}"
        if self._lost.done():
            raise self._not_sent(what)
        try:
            info = self._client.publish(topic, payload, qos, retain, properties)
        except ValueError as error:
            raise errors.BadInput(f"{what}: {error}") from None
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            # The library keeps the message for a later connection; this client has none.
            raise self._not_sent(what)
        # No turn of the loop since: the answer cannot have come before there is a place for it.
        answer: asyncio.Future[ReasonCode | None] = self._loop.create_future()
        self._acknowledged[info.mid] = answer
        with exchange(self.name):
            await self._settled(answer, self._connection.timeout.total_seconds())
            if not answer.done() or (qos == 0 and not await self.is_heard()):
                text = f"{what}: the broker did not acknowledge it"
                if repeatable:
                    raise errors.DeviceTimeout(text)
                hint = "Look whether the message came where it should."
                raise errors.UnknownOutcome(text, hint=hint)
        reason = answer.result()
        if reason is not None and reason.is_failure:
            raise errors.DeviceRefused(f"{what}: the broker refuses it: {reason}")
        known = self._connection.version == "5" and qos > 0
        return str(reason) if known and reason is not None else ""

    async def is_heard(self) -> bool:
        """Return whether the broker answers a ping: what was sent before has come to it."""
        heard: asyncio.Future[None] = self._loop.create_future()

        def hear() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_give, heard, None)

        self._client.heard = hear
        self._client.ping()
        await self._settled(heard, self._connection.timeout.total_seconds())
        return heard.done()

    def _not_sent(self, what: str) -> errors.DeviceUnreachable:
        lost = errors.DeviceUnreachable(f"{what}: the connection is lost; nothing was sent")
        lost.not_done = True
        return lost

    # --- messages --------------------------------------------------------------------------------

    async def subscribe(self, topic: str, qos: Qos = 1) -> None:
        """Subscribe, and wait until the broker has said yes.

        Raises DeviceRefused, DeviceUnreachable and DeviceTimeout; nothing was published by then.
        """
        what = f"{self.name}: subscribing to {topic}"
        try:
            code, mid = self._client.subscribe(topic, qos)
        except ValueError as error:
            raise errors.BadInput(f"{what}: {error}") from None
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or mid is None:
            raise self._not_sent(what)
        answer: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._subscribed[mid] = answer
        await self._settled(answer, self._connection.timeout.total_seconds())
        if not answer.done():
            if self._lost.done():
                raise self._not_sent(what)
            unanswered = errors.DeviceTimeout(f"{what}: no answer")
            unanswered.not_done = True
            raise unanswered
        for reason in answer.result():
            if reason.is_failure:
                raise errors.DeviceRefused(f"{what}: the broker refuses it: {reason}")
            if self._connection.session and reason.value < qos:
                raise errors.DeviceRefused(f"{what}: the broker grants QoS {reason.value} only")

    async def next_message(self) -> Message:
        """Return the next message, however long it takes. Raises DeviceUnreachable.

        Of a kept session, what came before the connection was lost comes again in the next one.
        """
        if self._connection.session and self._lost.done():
            raise self._not_sent(f"{self.name}: waiting for a message")
        coming = asyncio.ensure_future(self._messages.get())
        either: set[asyncio.Future[Any]] = {coming, self._lost}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return coming.result()
        finally:
            coming.cancel()
        raise errors.DeviceUnreachable(
            f"{self.name}: the connection is lost: {self._lost.result()}"
        )

    def acknowledge(self, message: Message) -> None:
        """Tell the broker of a kept session that the message need not come again.

        Raises DeviceUnreachable. That the broker has heard it is known from :meth:`is_heard`.
        """
        told = self._client.ack(message.mid, message.qos)
        if self._lost.done() or told != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._not_sent(f"{self.name}: acknowledging a message")

    @property
    def has_message(self) -> bool:
        """Whether a message has come that was not taken yet."""
        return not self._messages.empty()

    async def ask(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: Qos = 1,
        repeatable: bool = False,
        content_type: str | None = None,
    ) -> Message:
        """Publish a question and return its answer, known by its correlation data (MQTT 5).

        It waits until it is cancelled: the caller sets the limit. Raises what publishing raises.
        """
        number = uuid4()
        answer_to = f"{_ANSWERS}/{number.hex}"
        await self.subscribe(answer_to, qos)
        await self.publish(
            topic,
            payload,
            qos=qos,
            repeatable=repeatable,
            answer_to=answer_to,
            correlation=number.bytes,
            content_type=content_type,
        )
        try:
            while (message := await self.next_message()).correlation != number.bytes:
                logger.warning("%s: an answer to another question came to %s", self.name, answer_to)
        except errors.DeviceUnreachable as error:
            text = f"{error}, after a question was sent to {topic}"
            if repeatable:
                raise errors.DeviceTimeout(text) from error
            raise errors.UnknownOutcome(text, hint="Look at what it may have done.") from error
        return message


def _give(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)
