"""The plant as a whole: its line, its clock and its servers, on the loopback interface."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import uvicorn
from fastapi import FastAPI

from smartops.errors import BadInput
from smartops.plant.addresses import HOST, Addresses
from smartops.plant.faults import Faults, PlantLog
from smartops.plant.field_devices import FieldDevices
from smartops.plant.line import TICK_S, Line
from smartops.plant.modbus_server import PlcServer
from smartops.plant.opcua_server import OpcUaServer
from smartops.plant.web import hmi_app, orders_app


class _QuietServer(uvicorn.Server):
    """A server that leaves signals to the program around it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Plant:
    """A running plant: ``async with Plant() as plant``. A port of 0 takes a free one."""

    def __init__(
        self,
        *,
        seed: int = 1,
        faults: Sequence[str] = (),
        ports: Addresses | None = None,
        log_file: Path | None = None,
        opcua: bool = True,
        folder: Path | None = None,
    ) -> None:
        """Make a plant; without ``opcua`` it starts at once, and has no OPC UA server.

        ``folder`` is where its serial ports are found, and where its MQTT broker has its files;
        without one, or where another plant uses it, the plant has neither.
        """
        self.line = Line(seed)
        self.faults = Faults(faults)
        self.log = PlantLog(log_file)
        wanted = ports or Addresses(0, 0, 0)
        self._plc = PlcServer(self.line, self.faults, self.log, wanted.modbus_port)
        self._opcua = OpcUaServer(self.line, self.faults, self.log, wanted.opcua_port)
        self._with_opcua = opcua
        self.field = FieldDevices(self.line, self.faults, self.log, folder)
        self._wanted = wanted
        self._web: list[tuple[_QuietServer, asyncio.Task[None]]] = []
        self._clock: asyncio.Task[None] | None = None
        self.addresses = wanted

    async def __aenter__(self) -> Self:
        """Start everything. Raises BadInput when a port is taken."""
        with contextlib.ExitStack() as sockets:
            mqtt = sockets.enter_context(_bind(self._mqtt_port))
            orders = sockets.enter_context(_bind(self._wanted.orders_port))
            hmi = sockets.enter_context(_bind(self._wanted.hmi_port))
            try:
                await self._plc.start()
            except (OSError, RuntimeError) as error:
                raise _port_taken(self._wanted.modbus_port) from error
            if self._with_opcua:
                with _bind(self._wanted.opcua_port) as free:
                    self._opcua.port = free.getsockname()[1]
                self._opcua.start()
            mqtt_port = mqtt.getsockname()[1]
            mqtt.close()
            self.field.start(mqtt_port)
            sockets.pop_all()
        orders_port, hmi_port = orders.getsockname()[1], hmi.getsockname()[1]
        self.addresses = Addresses(
            self._plc.port,
            orders_port,
            hmi_port,
            self._opcua.port,
            mqtt_port if self.field.has_broker else 0,
        )
        self._clock = asyncio.create_task(self._run_clock())
        await self._serve(orders_app(self.faults, self.log), orders)
        await self._serve(hmi_app(self.line, self.faults, self.log), hmi)
        return self

    @property
    def _mqtt_port(self) -> int:
        """The port that is wanted for the broker: any, where there can be none."""
        return self._wanted.mqtt_port if self.field.wants_broker else 0

    async def opcua_is_ready(self) -> None:
        """Wait for the OPC UA server, which takes some seconds more than the rest.

        Raises what it fails with, such as OSError for a port that is taken.
        """
        await self._opcua.is_ready()

    async def fails(self) -> None:
        """Wait, mostly for ever, until it cannot go on. Raises BadInput with the reason.

        Another program may take the broker's port between its choice and the broker's start.
        """
        await self.field.port_is_taken()
        raise _port_taken(self.addresses.mqtt_port)

    async def __aexit__(self, *exc_info: object) -> None:
        """Stop everything and free the ports."""
        if self._clock is not None:
            self._clock.cancel()
            await asyncio.gather(self._clock, return_exceptions=True)
        for server, _ in self._web:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in self._web), return_exceptions=True)
        await self.field.stop()
        await self._opcua.stop()
        await self._plc.stop()

    async def _run_clock(self) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            self.line.advance(now - last)
            last = now

    async def _serve(self, app: FastAPI, listener: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            log_level=logging.CRITICAL,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        server = _QuietServer(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        self._web.append((server, task))
        while not server.started and not task.done():  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.01)


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        raise _port_taken(port) from error
    return listener


def _port_taken(port: int) -> BadInput:
    return BadInput(
        f"port {port} on {HOST} is taken by another program",
        hint="Stop that program, or leave the ports to SmartOps, which then takes free ones.",
    )
