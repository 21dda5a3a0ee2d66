"""OPC UA: what there is below a node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncua import ua

from smartops.drivers.opcua_reading import NodeReader
from smartops.drivers.opcua_session import Connection, LimitedClient, edge
from smartops.drivers.opcua_tags import with_uri
from smartops.drivers.opcua_values import plain

_SERVER = "i=2253"
"""What every server says of itself: no part of the plant."""


class Browser:
    """Looks for variables and methods over an open session."""

    def __init__(
        self,
        client: LimitedClient,
        connection: Connection,
        nodes: NodeReader,
        namespaces: Sequence[str],
    ) -> None:
        self._client = client
        self._connection = connection
        self._nodes = nodes
        self._namespaces = namespaces

    async def found_below(self, start: ua.NodeId, depth: int) -> list[dict[str, Any]]:
        """Return the variables and methods below a node: node, name, class, type, value."""
        found: list[dict[str, Any]] = []
        variables: list[ua.NodeId] = []
        level = {start: ""}
        seen = set(level)
        for _ in range(depth):
            following: dict[ua.NodeId, str] = {}
            for reference, parent in await self._below(list(level)):
                node = ua.NodeId.from_string(reference.NodeId.to_string())
                if node in seen or node.to_string() == _SERVER:
                    continue
                seen.add(node)
                name = f"{level[parent]}/{reference.BrowseName.Name}".lstrip("/")
                following[node] = name
                if reference.NodeClass in {ua.NodeClass.Variable, ua.NodeClass.Method}:
                    shown = with_uri(node.to_string(), self._namespaces)
                    kind = ua.NodeClass(reference.NodeClass).name.lower()
                    found.append({"node": shown, "name": name, "class": kind})
                    if kind == "variable":
                        variables.append(node)
            level = following
        values = await self._nodes.read(variables)
        shown_variables = [entry for entry in found if entry["class"] == "variable"]
        for entry, data in zip(shown_variables, values, strict=True):
            entry["value"] = plain(data.Value.Value) if data.Value is not None else None
            entry["type"] = data.Value.VariantType.name if data.Value is not None else ""
        return found

    async def _below(
        self, nodes: Sequence[ua.NodeId]
    ) -> list[tuple[ua.ReferenceDescription, ua.NodeId]]:
        """Return what stands below nodes, each with the node that it is below."""
        found: list[tuple[ua.ReferenceDescription, ua.NodeId]] = []
        for start in range(0, len(nodes), self._nodes.browse_at_once):
            asked = nodes[start : start + self._nodes.browse_at_once]
            part = [self._client.get_node(node) for node in asked]
            with edge(self._connection, "browsing"):
                results = await self._client.browse_nodes(part)
            for node, result in results:
                while True:
                    found += [(reference, node.nodeid) for reference in result.References or ()]
                    if not result.ContinuationPoint:
                        break
                    more = ua.BrowseNextParameters(
                        ReleaseContinuationPoints=False,
                        ContinuationPoints=[result.ContinuationPoint],
                    )
                    with edge(self._connection, "browsing"):
                        [result] = await self._client.uaclient.browse_next(more)  # noqa: PLW2901
        return found
