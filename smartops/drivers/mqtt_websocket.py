"""MQTT over websockets: a connection that the library uses as if it were a plain one.

The library's own answers a server's ping with a frame that no server may take, so that one that
pings would hang up; and it waits for the handshake in a way that nothing can end.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

_AT_ONCE = 65_536
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
Wire = socket.socket | ssl.SSLSocket
WhenReady = Callable[[Wire, Callable[[], Any]], Awaitable[Any]]
"""Calls something of a wire until it can be done without waiting."""


async def upgraded(wire: Wire, host: str, port: int, path: str, when_ready: WhenReady) -> WebSocket:
    """Return the websocket that a wire becomes, after its handshake. Raises OSError."""
    scheme = "wss" if isinstance(wire, ssl.SSLSocket) else "ws"
    place = f"[{host}]" if ":" in host else host
    protocol = ClientProtocol(
        parse_uri(f"{scheme}://{place}:{port}{path}"),
        subprotocols=[Subprotocol("mqtt")],
        max_size=None,
    )
    protocol.send_request(protocol.connect())
    asked = b"".join(protocol.data_to_send())
    while asked:
        asked = asked[await when_ready(wire, functools.partial(wire.send, asked)) :]
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        said: bytes = await when_ready(wire, lambda: wire.recv(_AT_ONCE))
        protocol.receive_data(said) if said else protocol.receive_eof()
    if protocol.handshake_exc is not None:
        raise ConnectionError(f"no websocket at {path}: {protocol.handshake_exc}")
    return WebSocket(wire, protocol)


class WebSocket:
    """What is sent goes in binary frames, and what comes in them is received; it never waits."""

    def __init__(self, wire: Wire, protocol: ClientProtocol) -> None:
        self._wire, self._protocol = wire, protocol
        self._coming = bytearray()
        self._going = bytearray()
        self._promised = 0
        """The length of what was framed, and has not gone out as a whole."""
        self._take()

    def recv(self, size: int) -> bytes:
        """Return what has come, b"" at the end. Raises BlockingIOError for nothing, OSError."""
        while not self._coming:
            if self._protocol.state is not State.OPEN:
                return b""
            said = self._wire.recv(_AT_ONCE)
            self._protocol.receive_data(said) if said else self._protocol.receive_eof()
            self._take()
            with contextlib.suppress(*_NOT_NOW):
                self._flush()  # the answer to a ping
        found = bytes(self._coming[:size])
        del self._coming[:size]
        return found

    def _take(self) -> None:
        for event in self._protocol.events_received():
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.TEXT:
                raise ConnectionAbortedError("the broker sends texts, which MQTT does not know")
            if event.opcode in {Opcode.BINARY, Opcode.CONT}:
                self._coming += event.data

    def send(self, data: bytes | bytearray) -> int:
        """Send all of it, and return its length.

        Raises BlockingIOError as long as it has not gone out, to be called again with the same.
        """
        if not self._promised:
            try:
                self._protocol.send_binary(bytes(data))
            except WebSocketException as error:
                raise ConnectionAbortedError(str(error)) from error
            self._promised = len(data)
        self._flush()
        sent, self._promised = self._promised, 0
        return sent

    def _flush(self) -> None:
        for frame in self._protocol.data_to_send():
            self._going += frame
        while self._going:
            del self._going[: self._wire.send(self._going)]

    def pending(self) -> int:
        """Return how many bytes are here that the kernel does not tell of."""
        held = self._wire.pending() if isinstance(self._wire, ssl.SSLSocket) else 0
        return len(self._coming) + held

    def fileno(self) -> int:
        """Return the number of the connection's file."""
        return self._wire.fileno()

    def setblocking(self, flag: bool) -> None:
        """Say whether calls wait: they never do."""
        self._wire.setblocking(flag)

    def shutdown(self, how: int) -> None:
        """End the connection's ways, for whoever waits on it."""
        self._wire.shutdown(how)

    def close(self) -> None:
        """Close the connection."""
        self._wire.close()
