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
from typing import Any

import paho.mqtt.client as paho


class WiredClient(paho.Client):
    """The library's client, over a connection that is there already."""

    wire: socket.socket | None = None

    def _create_socket_connection(self) -> socket.socket:
        wire, self.wire = self.wire, None
        if wire is None:
            raise OSError("there is no connection")
        return wire


async def reach(host: str, port: int, limit_s: float, tls: ssl.SSLContext | None) -> socket.socket:
    """Return a connection to a broker, with the handshake of TLS behind it.

    Raises OSError (ssl.SSLError among them) and ValueError.
    """
    try:
        async with asyncio.timeout(limit_s):
            wire = await _connected(host, port)
            return wire if tls is None else await _secured(wire, tls, host)
    except TimeoutError:
        raise TimeoutError("timed out") from None


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
    loop = asyncio.get_running_loop()
    with wire:  # the secured one takes its handle over, or it is closed
        secured = context.wrap_socket(wire, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                await _ready(secured, loop.add_reader, loop.remove_reader)
            except ssl.SSLWantWriteError:
                await _ready(secured, loop.add_writer, loop.remove_writer)
            else:
                return secured
    except BaseException:
        secured.close()
        raise


async def _ready(
    wire: socket.socket, watch: Callable[..., Any], forget: Callable[[Any], Any]
) -> None:
    ready = asyncio.Event()
    watch(wire, ready.set)
    try:
        await ready.wait()
    finally:
        forget(wire)
