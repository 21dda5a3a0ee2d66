"""The line's cell controller: an OPC UA server without security, on the loopback interface."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from asyncua import ua
from asyncua.common.methods import uamethod
from asyncua.common.node import Node
from asyncua.server.server import Server
from asyncua.ua.status_codes import StatusCodes

from smartops.plant.faults import Faults, PlantLog
from smartops.plant.following import Follower
from smartops.plant.line import MAX_SPEED, Line

logging.getLogger("asyncua").setLevel(logging.CRITICAL)

NAMESPACE = "urn:smartops:plant:line"
_REFRESH_S = 0.1
_UNCERTAIN = ua.UInt32(StatusCodes.UncertainLastUsableValue)


class OpcUaServer(Follower):
    """The server on a port; its address space takes seconds."""

    def __init__(self, line: Line, faults: Faults, log: PlantLog, port: int) -> None:
        self._line, self._faults, self._log = line, faults, log
        self.port = port
        self._server: Server | None = None
        self._shown: list[tuple[Node, Callable[[], Any], ua.VariantType]] = []
        self.ready = asyncio.Event()

    async def is_ready(self) -> None:
        """Wait until it listens. Raises what it fails with."""
        ready = asyncio.ensure_future(self.ready.wait())
        watch = {self._watch} if self._watch is not None else set()
        try:
            await asyncio.wait({ready, *watch}, return_when=asyncio.FIRST_COMPLETED)
            for ended in (task for task in watch if task.done()):
                ended.result()
        finally:
            ready.cancel()

    async def _listen(self) -> None:
        server = Server()
        await server.init()
        server.set_endpoint(f"opc.tcp://127.0.0.1:{self.port}")
        server.set_server_name("SmartOps plant")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace(NAMESPACE)
        await self._fill(server, index)
        await server.start()
        self._server = server
        self.ready.set()

    async def _fill(self, server: Server, index: int) -> None:
        line = self._line
        folder = await server.nodes.objects.add_object(_node_id("Line", index), f"{index}:Line")
        shown: list[tuple[str, Callable[[], Any], ua.VariantType]] = [
            ("Speed", lambda: line.snapshot().speed, ua.VariantType.Double),
            ("Temperature", lambda: line.snapshot().temperature, ua.VariantType.Float),
            ("TankLevel", lambda: line.snapshot().tank_level, ua.VariantType.Double),
            ("Good", lambda: line.snapshot().good, ua.VariantType.UInt32),
            ("Scrap", lambda: line.snapshot().scrap, ua.VariantType.UInt32),
            ("Batch", lambda: line.batch, ua.VariantType.String),
            ("SpeedSetpoint", lambda: line.speed_setpoint, ua.VariantType.Int16),
        ]
        self._shown = []
        for name, value, kind in shown:
            node = await folder.add_variable(
                _node_id(name, index), f"{index}:{name}", value(), varianttype=kind
            )
            self._shown.append((node, value, kind))
        self._setpoint = self._shown[-1][0]
        await self._setpoint.set_writable()
        server.set_attribute_value_setter(self._setpoint.nodeid, self._on_setpoint)
        await folder.add_method(
            _node_id("ResetCounters", index),
            f"{index}:ResetCounters",
            self._reset,
            [ua.VariantType.String],
            [ua.VariantType.UInt32],
        )

    def _on_setpoint(self, node: Any, attribute: Any, data: ua.DataValue) -> None:
        """Take a setpoint; one that the line cannot run at is acknowledged, and not kept."""
        value = data.Value.Value if data.Value is not None else None
        self._log.add("opcua.write", node="SpeedSetpoint", value=value)
        if isinstance(value, int) and 0 <= value <= MAX_SPEED:
            self._line.speed_setpoint = value
            node.attributes[attribute].value = data

    @uamethod
    def _reset(self, _parent: Any, reason: str) -> int:
        """Start to count from zero; return what was counted."""
        self._log.add("opcua.call", method="ResetCounters", reason=reason)
        counted = self._line.good
        self._line.reset_counters()
        return counted

    async def _follow(self) -> None:
        """Show the line's state, take what is written, follow the fault of the network."""
        while True:
            offline = "opcua-offline" in self._faults
            if offline and self._server is not None:
                await self._leave()
            elif not offline and self._server is None:
                await self._listen()
            if self._server is not None:
                await self._refresh(self._server)
            await asyncio.sleep(_REFRESH_S)

    async def _refresh(self, server: Server) -> None:
        uncertain = "opcua-uncertain" in self._faults
        status = ua.StatusCode(_UNCERTAIN if uncertain else ua.UInt32(0))
        now = datetime.now(UTC)
        for node, value, kind in self._shown:
            data = ua.DataValue(
                ua.Variant(value(), kind),
                status,
                SourceTimestamp=ua.DateTime.fromtimestamp(now.timestamp(), UTC),
            )
            if node != self._setpoint or value() != await node.read_value():
                await server.write_attribute_value(node.nodeid, data)

    async def _leave(self) -> None:
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop()


def _node_id(name: str, index: int) -> ua.NodeId:
    return ua.NodeId.from_string(f"ns={index};s={name}")
