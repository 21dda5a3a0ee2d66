"""OPC UA reads: in parts that the server allows, structures by the types of their own server."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import AbstractAsyncContextManager

from asyncua import ua
from asyncua.ua.attribute_ids import AttributeIds
from asyncua.ua.object_ids import ObjectIds

from smartops import errors
from smartops.drivers.opcua_session import AT_ONCE, Connection, LimitedClient, edge
from smartops.drivers.opcua_structures import is_own, known

_START_TIME = ObjectIds.Server_ServerStatus_StartTime


class NodeReader:
    """Reads nodes over an open session."""

    def __init__(self, client: LimitedClient, connection: Connection) -> None:
        self._client = client
        self._connection = connection
        self.browse_at_once = self.watch_at_once = AT_ONCE
        self.owner: Hashable = object()
        """What tells this server's structures from those of others."""

    async def learn_limits(self) -> None:
        """Ask how many nodes one request may name; a server that does not say has no limit.

        And since when it has been running: its types stay what they are until it ends.
        """
        limits = (
            ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
            ObjectIds.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
            ObjectIds.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
        )
        found = []
        for number in limits:
            [data] = await self.read([ua.NodeId(ua.Int32(number))])
            value = data.Value.Value if data.Value is not None else None
            found.append(min(value, AT_ONCE) if isinstance(value, int) and value else AT_ONCE)
        self._client.read_at_once, self.browse_at_once, self.watch_at_once = found
        [started] = await self.read([ua.NodeId(ua.Int32(_START_TIME))])
        if started.Value is not None and started.Value.Value is not None:
            self.owner = (self._connection.url, started.Value.Value)

    async def read(
        self,
        nodes: Sequence[ua.NodeId],
        attribute: AttributeIds = AttributeIds.Value,
        ranges: Sequence[str] = (),
    ) -> list[ua.DataValue]:
        """Return an attribute of each node, in that order. Raises what :func:`edge` does.

        ``ranges`` has the part of each that is wanted; empty: all of it.
        """
        parts = ranges or [""] * len(nodes)
        wanted = [
            ua.ReadValueId(
                NodeId=node,
                AttributeId=attribute,
                IndexRange=ua.NumericRange(part) if part else None,
            )
            for node, part in zip(nodes, parts, strict=True)
        ]
        found: list[ua.DataValue] = []
        for start in range(0, len(wanted), self._client.read_at_once):
            found += await self._part(wanted[start : start + self._client.read_at_once])
        return found

    async def _part(self, wanted: list[ua.ReadValueId]) -> list[ua.DataValue]:
        """Read at once; what the library took for structures of another server is read again."""
        try:
            answers = await self._ask(wanted)
            # No other task has run since the answer was taken apart.
            if known.owner == self.owner or not any(is_own(data.Value) for data in answers):
                return answers
        except errors.BadAnswer:
            if known.owner in {None, self.owner}:
                raise
        async with self.own_types():
            return await self._ask(wanted)

    async def _ask(self, wanted: list[ua.ReadValueId]) -> list[ua.DataValue]:
        """Read in one request, structures by the types that happen to be known."""
        asked = ua.ReadParameters(TimestampsToReturn=ua.TimestampsToReturn.Both, NodesToRead=wanted)
        with edge(self._connection, f"reading {len(wanted)} nodes"):
            answers = list(await self._client.uaclient.read(asked))
        if len(answers) != len(wanted):
            name = self._connection.name
            raise errors.BadAnswer(f"{name}: {len(answers)} answers to {len(wanted)} questions")
        return answers

    def own_types(self) -> AbstractAsyncContextManager[None]:
        """Have this server's types of structures known, and no other's, as long as it is open."""

        async def load() -> None:
            with edge(self._connection, "reading the types of structures"):
                await self._client.load_data_type_definitions()

        return known.of(self.owner, load)
