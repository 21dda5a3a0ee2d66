"""OPC UA: read, write and browse nodes, call methods.

The library guesses types, hides qualities and asks for more than a server allows at once: all of
that is done here. No exception of its leaves this module.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from asyncua import ua
from asyncua.client.ua_client import UASocketState
from asyncua.common.subscription import StatusChangeEvent
from asyncua.common.ua_utils import data_type_to_variant_type
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.uaerrors import UaError

from smartops import errors, locks
from smartops.drivers.opcua_browsing import Browser
from smartops.drivers.opcua_ranges import fitted
from smartops.drivers.opcua_reading import NodeReader
from smartops.drivers.opcua_session import (
    CONNECTING,
    Connection,
    LimitedClient,
    edge,
    new_client,
    plain_cancel,
    refusal,
)
from smartops.drivers.opcua_structures import is_own, known
from smartops.drivers.opcua_tags import OpcTag, with_index
from smartops.drivers.opcua_values import (
    ABSTRACT,
    natural,
    plain,
    reading_of,
    short,
    typed,
    variant_of,
)
from smartops.drivers.quarantine import Quarantine
from smartops.drivers.readings import Reading, Value
from smartops.drivers.writing import TaggedDevice
from smartops.rehearsal import check_url

_STRUCTURE = 22
_QUEUE = 10_000
"""How many changes of one node the server keeps until it tells them."""
_KEEPALIVES = 10
"""After how many intervals without a change the server says that it is still there."""
_OVERFLOW = 0x480
"""The bits of a status that say that the server's queue was full."""
_LOOK_S = 0.5


@asynccontextmanager
async def open_server(connection: Connection, *, alone: bool = True) -> AsyncIterator[OpcUaDriver]:
    """Connect with a session, and close it at the end, whatever happens.

    ``alone`` keeps others from the server meanwhile; who only watches lets them in.

    Raises DeviceUnreachable, DeviceQuarantined, AuthenticationFailed, UntrustedServer, LockTimeout.
    """
    check_url(connection.name, connection.url)
    quarantine = Quarantine(connection.name, connection.resource, "", connection.patience)
    quarantine.check()  # before it waits for the server
    async with locks.exclusive(connection.resource) if alone else contextlib.nullcontext():
        quarantine.claim()
        async with AsyncExitStack() as open_things:
            with quarantine.trial(connection.timeout):
                client = await new_client(connection)
                open_things.push_async_callback(_close, client, connection)
                driver = await _connected(client, connection)
            yield driver


async def _close(client: LimitedClient, connection: Connection) -> None:
    try:
        with contextlib.suppress(Exception):  # it may be gone: then it is closed
            async with asyncio.timeout(connection.timeout.total_seconds()):
                with plain_cancel():
                    await client.disconnect()
    finally:  # whatever became of saying goodbye, and also when that was cancelled
        protocol = client.uaclient.protocol
        if protocol is not None and protocol.transport is not None:
            protocol.transport.abort()


async def _connected(client: LimitedClient, connection: Connection) -> OpcUaDriver:
    with edge(connection, CONNECTING):
        await client.connect()
        namespaces = await client.get_namespace_array()
    driver = OpcUaDriver(client, connection, namespaces)
    await driver.nodes.learn_limits()
    return driver


class OpcUaDriver(TaggedDevice[OpcTag]):
    """An open session. Not for use by several tasks at once."""

    def __init__(
        self, client: LimitedClient, connection: Connection, namespaces: Sequence[str]
    ) -> None:
        super().__init__(connection.name, connection.tags)
        self._client = client
        self._connection = connection
        self._namespaces = list(namespaces)
        self._types: dict[str, ua.VariantType] = {}
        self._held: dict[str, Any] = {}
        """The structures that were there before they were written."""
        self.nodes = NodeReader(client, connection)

    @property
    def connected(self) -> bool:
        """Whether the server can still be asked."""
        protocol = self._client.uaclient.protocol
        return protocol is not None and protocol.state is UASocketState.OPEN

    def node_id(self, node: str) -> ua.NodeId:
        """Return a node as this server numbers its namespace. Raises UnknownTag."""
        try:
            return ua.NodeId.from_string(with_index(node, self._namespaces))
        except (ValueError, UaError) as error:
            raise errors.UnknownTag(f"{self.name}: {node}: {error}") from None

    # --- reading -----------------------------------------------------------------------------

    async def read(self, names: Iterable[str]) -> list[Reading]:
        """Return a reading for each name, in that order, in as few requests as the server allows.

        Raises UnknownTag, DeviceTimeout, DeviceUnreachable.
        """
        wanted = [self.tag(name) for name in names]
        found = await self.nodes.read(
            [self.node_id(tag.node) for tag in wanted], ranges=[tag.index_range for tag in wanted]
        )
        now = datetime.now(UTC)
        return [reading_of(tag, data, now) for tag, data in zip(wanted, found, strict=True)]

    async def changes(self, names: Iterable[str], every: timedelta) -> AsyncGenerator[Reading]:
        """Give each change of tags as the server tells it, first what they hold now.

        The server looks as often as it can and tells every change, ``every`` so often; a reading
        says when some were lost before it. It goes on until it is closed. Raises UnknownTag,
        DeviceRefused for a node that cannot be watched, DeviceUnreachable when the session is lost.
        """
        wanted = [self.tag(name) for name in names]
        places: dict[ua.NodeId, list[OpcTag]] = {}
        for tag in wanted:
            places.setdefault(self.node_id(tag.node), []).append(tag)
        parameters = ua.CreateSubscriptionParameters(
            RequestedPublishingInterval=every.total_seconds() * 1000,
            RequestedMaxKeepAliveCount=_KEEPALIVES,
            RequestedLifetimeCount=10 * _KEEPALIVES,
        )
        with edge(self._connection, "subscribing"):
            subscription = await self._client.create_subscription(parameters, queue_maxsize=0)
            nodes = [self._client.get_node(node) for node in places]
            answers: list[Any] = []
            for start in range(0, len(nodes), self.nodes.watch_at_once):
                answers += await subscription.subscribe_data_change(
                    nodes[start : start + self.nodes.watch_at_once],
                    queuesize=_QUEUE,
                    sampling_interval=ua.Double(0.0),
                )
        for tags, answer in zip(places.values(), answers, strict=True):
            if isinstance(answer, ua.StatusCode):
                raise refusal(answer, f"{self.name}: subscribing to {tags[0].name}")
        given = subscription.parameters  # as the server has it
        alive_s = given.RequestedPublishingInterval * given.RequestedMaxKeepAliveCount / 1000
        silent_s = 3 * max(alive_s, 1.0, self._connection.timeout.total_seconds())
        heard = asyncio.get_running_loop().time()
        while True:
            try:
                event: Any = await subscription.next_event(timeout=_LOOK_S)
            except StopAsyncIteration:  # the library has given it up
                raise errors.DeviceUnreachable(f"{self.name}: the subscription is lost") from None
            now = asyncio.get_running_loop().time()
            heard = max(heard, subscription.last_publish_at or 0.0)
            if event is None:
                if not self.connected or now - heard > silent_s:
                    raise errors.DeviceUnreachable(f"{self.name}: the subscription is lost")
                continue
            if isinstance(event, StatusChangeEvent):
                raise errors.DeviceUnreachable(f"{self.name}: the server ends the subscription")
            data = event.data.monitored_item.Value
            lost = data.StatusCode is not None and data.StatusCode.value & _OVERFLOW == _OVERFLOW
            if is_own(data.Value):  # nobody knows by which server's types it was taken apart
                [data] = await self.nodes.read([event.node.nodeid])
            now_utc = datetime.now(UTC)
            for tag in places[event.node.nodeid]:
                reading = reading_of(tag, data, now_utc, of_whole=True)
                if lost:
                    reading = replace(reading, reason="changes before this one were lost")
                yield reading

    # --- writing -----------------------------------------------------------------------------

    async def send(self, tag: OpcTag, value: Value) -> None:
        """Send the value once; return when the server has taken it."""
        node = self.node_id(tag.node)
        text = f"writing {tag.name}"
        async with AsyncExitStack() as open_things:
            try:
                kind = await self._type_of(node)
                if kind is ua.VariantType.ExtensionObject:
                    await open_things.enter_async_context(self.nodes.own_types())
                variant = await self._variant(tag, node, kind, value)
            except errors.TransientError as error:
                error.not_done = True  # nothing but questions was sent so far
                raise
            item = ua.WriteValue(
                NodeId=node,
                AttributeId=AttributeIds.Value,
                IndexRange=ua.NumericRange(tag.index_range) if tag.index_range else None,
                Value=ua.DataValue(variant),
            )
            asked = ua.WriteParameters(NodesToWrite=[item])
            with edge(self._connection, text):
                [status] = await self._client.uaclient.write(asked)
        if status.is_bad():
            raise refusal(status, f"{self.name}: {text}")

    async def _variant(
        self, tag: OpcTag, node: ua.NodeId, kind: ua.VariantType, value: Value
    ) -> ua.Variant:
        """Return what to send; for a structure the server's types have to be known.

        A server that knows no index ranges would put the part in the place of the whole array.
        """
        now: Any = None
        if kind is ua.VariantType.ExtensionObject or tag.spans:
            [data] = await self.nodes.read([node], ranges=[tag.index_range])
            now = data.Value.Value if data.Value is not None else None
            self._held[tag.name] = now
        try:
            return variant_of(tag, value, kind, now)
        except (errors.BadInput, ValueError) as error:
            raise errors.DeviceRefused(f"{self.name}.{tag.name}: {error}") from None

    async def _type_of(self, node: ua.NodeId) -> ua.VariantType:
        """Return the type that the server wants, asked for once."""
        key = node.to_string()
        if key not in self._types:
            [data] = await self.nodes.read([node], AttributeIds.DataType)
            if data.Value is None or data.Value.Value is None:
                status = data.StatusCode or ua.StatusCode()
                raise errors.DeviceRefused(f"{self.name}: {key}: {status.name}")
            kind = await self._variant_type(data.Value.Value)
            self._types[key] = await self._held_type(node) if kind is ABSTRACT else kind
        return self._types[key]

    async def _held_type(self, node: ua.NodeId) -> ua.VariantType:
        """Return the type of what a node holds, for one that may hold any number or anything."""
        [data] = await self.nodes.read([node])
        if data.Value is None or data.Value.VariantType is ua.VariantType.Null:
            raise errors.DeviceRefused(
                f"{self.name}: {node.to_string()}: the server does not say which type it wants"
            )
        return data.Value.VariantType

    async def _variant_type(self, data_type: ua.NodeId) -> ua.VariantType:
        with edge(self._connection, "reading a type"):
            found = await data_type_to_variant_type(self._client.get_node(data_type))
        return ua.VariantType.ExtensionObject if found.value == _STRUCTURE else found

    def nearest(self, tag: OpcTag, value: Value) -> Value:
        """Return what the server can hold of a value, as far as its type is known."""
        kind = self._types.get(self.node_id(tag.node).to_string())
        if kind is None or tag.enum:
            return value
        try:
            held = variant_of(tag, value, kind, self._held.get(tag.name))
            found = fitted(plain(held), tag.spans)
        except (errors.BadInput, ValueError):
            return value
        nearest: Value = short(found) if kind is ua.VariantType.Float else found
        return nearest

    def shown(self, tag: OpcTag, value: Value) -> str:
        """Return what a write would send, for people."""
        part = f"[{tag.index_range}]" if tag.index_range else ""
        return f"{tag.node}{part}: {value!r}"

    # --- methods and nodes -------------------------------------------------------------------

    async def prepare(self, method: str, arguments: Sequence[Any]) -> list[ua.Variant]:
        """Return a method's arguments in the types that it wants. Raises BadInput."""
        wanted = await self._arguments_of(self.node_id(method))
        if len(wanted) != len(arguments):
            names = (argument.Name or argument.DataType.to_string() for argument in wanted)
            raise errors.BadInput(
                f"{self.name}: {method} takes the arguments {', '.join(names) or 'none'}"
            )
        variants = []
        for given, argument in zip(arguments, wanted, strict=True):
            kind = await self._variant_type(argument.DataType)
            kind = natural(given) if kind is ABSTRACT else kind
            value = typed(given, kind)
            variants.append(ua.Variant(value, kind, is_array=isinstance(given, list)))
        return variants

    async def call(
        self, object_node: str, method: str, arguments: list[ua.Variant], *, repeatable: bool
    ) -> list[Any]:
        """Call a method once, with what :meth:`prepare` gave; return what it gives.

        Raises DeviceRefused, and UnknownOutcome where it may have been called.
        """
        request = ua.CallMethodRequest(
            ObjectId=self.node_id(object_node),
            MethodId=self.node_id(method),
            InputArguments=arguments,
        )
        what = f"calling {method}"
        try:
            # What it gives is not to be taken for a structure of another server; and nobody who
            # calls another server has to wait for this one.
            async with known.of(self.nodes.owner, None):
                pass
            with edge(self._connection, what):
                [result] = await self._client.uaclient.call([request])
            if result.StatusCode.is_bad():
                raise refusal(result.StatusCode, f"{self.name}: {what}")
            meanwhile = known.owner not in {None, self.nodes.owner}
            if meanwhile and any(is_own(found) for found in result.OutputArguments or ()):
                raise errors.BadAnswer(
                    f"{self.name}: {what}: it gives a structure, while one of another server was "
                    "read"
                )
            return [plain(argument) for argument in result.OutputArguments or ()]
        except (errors.DeviceRefused, errors.AuthenticationFailed):
            raise
        except errors.SmartOpsError as error:
            if repeatable:
                raise
            raise errors.UnknownOutcome(
                f"{error}, so that nobody knows whether it was called",
                hint="Look at the device before the job is run again.",
            ) from error

    async def _arguments_of(self, method: ua.NodeId) -> list[ua.Argument]:
        with edge(self._connection, "reading the arguments of a method"):
            for child in await self._client.get_node(method).get_properties():
                name = await child.read_browse_name()
                if name.Name == "InputArguments":
                    return list(await child.read_value() or ())
        return []

    async def browse(self, below: str = "i=85", *, depth: int = 10) -> list[dict[str, Any]]:
        """Return the variables and methods below a node: node, name, class, type, value.

        Nodes are given with their namespace by URI, as tag maps should have them.
        """
        browser = Browser(self._client, self._connection, self.nodes, self._namespaces)
        return await browser.found_below(self.node_id(below), depth)
