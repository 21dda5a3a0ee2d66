"""Connecting to a broker so that it can be broken off.

The library connects in a call that nothing can end before its time limit: who gives up waiting for
it leaves a thread behind, and the next ones wait for a place in the pool. A socket whose handshake
fails it leaves to the garbage collector.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, TypeVar

import paho.mqtt.client as paho

from smartops.drivers.mqtt_websocket import WebSocket, upgraded

T = TypeVar("T")


class WiredClient(paho.Client):
    """The library's client, over a connection that is there already."""

    wire: socket.socket | WebSocket | None = None

    def _create_socket_connection(self) -> Any:
        wire, self.wire = self.wire, None
        if wire is None:
            raise OSError("there is no connection")
        return wire


async def reach(
    host: str, port: int, limit_s: float, tls: ssl.SSLContext | None, path: str | None = None
) -> socket.socket | WebSocket:
    """Return a connection to a broker, with the handshakes behind it.

    ``path`` is where its websocket is; None: it has none. Raises OSError (ssl.SSLError among them)
    and ValueError.
    """
    try:
        async with asyncio.timeout(limit_s):
            wire = await _connected(host, port)
            if tls is not None:
                wire = await _secured(wire, tls, host)
            return wire if path is None else await _framed(wire, host, port, path)
    except TimeoutError:
        raise TimeoutError("timed out") from None


async def _framed(wire: socket.socket, host: str, port: int, path: str) -> WebSocket:
    try:
        return await upgraded(wire, host, port, path, _when_ready)
    except BaseException:
        wire.close()
        raise


async def _connected(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        wire = socket.socket(family, kind, protocol)
        try:
            wire.setblocking(False)
            await loop.sock_connect(wire, address)
        except OSError as error:
            wire.close()
            failure = error
        except BaseException:
            wire.close()
            raise
        else:
            return wire
    raise failure


async def _secured(wire: socket.socket, context: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    with wire:  # the secured one takes its handle over, or it is closed
        secured = context.wrap_socket(wire, server_hostname=host, do_handshake_on_connect=False)
    try:
        await _when_ready(secured, secured.do_handshake)
    except BaseException:
        secured.close()
        raise
    return secured


async def _when_ready(wire: socket.socket, call: Callable[[], T]) -> T:
    """Call something of a wire until it can be done without waiting; return what it gives."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return call()
        except (BlockingIOError, ssl.SSLWantReadError):
            await _ready(wire, loop.add_reader, loop.remove_reader)
        except ssl.SSLWantWriteError:
            await _ready(wire, loop.add_writer, loop.remove_writer)


async def _ready(
    wire: socket.socket, watch: Callable[..., Any], forget: Callable[[Any], Any]
) -> None:
    ready = asyncio.Event()
    watch(wire, ready.set)
    try:
        await ready.wait()
    finally:
        forget(wire)
