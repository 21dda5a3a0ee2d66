"""A web server that passes MQTT on to a broker, as those do that brokers stand behind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

PATH = "/mqtt"


@dataclass
class Gateway:
    """It listens at ``port``; a websocket is at the path ``/mqtt`` only."""

    target: int
    port: int = 0
    open: list[ServerConnection] = field(default_factory=list)

    async def serve(self, connection: ServerConnection) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        self.open.append(connection)

        async def answer() -> None:
            with suppress(ConnectionClosed, OSError):
                while data := await reader.read(65_536):
                    middle = len(data) // 2
                    await connection.send([data[:middle], data[middle:]])  # a message in two frames

        answering = asyncio.create_task(answer())
        with suppress(ConnectionClosed):
            async for message in connection:
                assert isinstance(message, bytes)
                writer.write(message)
        answering.cancel()
        writer.close()


def _only_there(connection: ServerConnection, request: Request) -> Response | None:
    if request.path == PATH:
        return None
    return connection.respond(HTTPStatus.NOT_FOUND, "nothing here\n")


@asynccontextmanager
async def gateway_to(target: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Gateway]:
    """Give a gateway to a port of the loopback interface; it pings whoever is connected."""
    gateway = Gateway(target)
    async with serve(
        gateway.serve,
        "127.0.0.1",
        0,
        subprotocols=[Subprotocol("mqtt")],
        process_request=_only_there,
        ssl=tls,
        ping_interval=0.2,
    ) as server:
        gateway.port = next(iter(server.sockets)).getsockname()[1]
        yield gateway
