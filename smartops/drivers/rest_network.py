"""Opens connections for REST calls: only to addresses that were checked, and to no others.

The name is resolved here, its addresses are checked, and one of these is connected to. Whatever the
name leads to a moment later has no effect.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import httpcore

from smartops import errors
from smartops.drivers.rest_address import Reach, as_address
from smartops.rehearsal import check_host


class Stream(httpcore.AsyncNetworkStream):
    """An open connection, which a forked child must not share."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        _open.add(self)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has come."""
        return await self._inner.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send something."""
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close it."""
        _open.discard(self)
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Return the same connection, secured."""
        return Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of it."""
        return self._inner.get_extra_info(info)


_open: WeakSet[Stream] = WeakSet()


def _let_go_after_fork() -> None:
    """Give up the copies of open connections: two processes on one would mix their requests up."""
    for stream in list(_open):
        wire = stream.get_extra_info("socket")
        if wire is not None and wire.fileno() >= 0:
            # Its number stays in use, as whoever still knows it may close it.
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, wire.fileno(), inheritable=False)
            os.close(nothing)
    _open.clear()


os.register_at_fork(after_in_child=_let_go_after_fork)


class CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to what a connection may reach."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect. Raises AddressRefused, RehearsalRefused and httpcore's errors."""
        check_host(self._reach.name, host)
        ends_at = time.monotonic() + (timeout or 3600.0)
        addresses = self._reach.permitted(host, await _resolve(host, port, timeout))
        for left in range(len(addresses), 0, -1):
            share_s = max(ends_at - time.monotonic(), 0.001) / left
            try:
                stream = await self._inner.connect_tcp(
                    addresses[-left],
                    port,
                    timeout=share_s,
                    local_address=local_address,
                    socket_options=socket_options,
                )
                return Stream(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise
        raise errors.AddressRefused(f"{self._reach.name}: {host} has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: services are reached over the network."""
        raise errors.AddressRefused(f"{self._reach.name}: {path} is no network address")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


async def _resolve(host: str, port: int, timeout: float | None) -> list[str]:
    if (address := as_address(host)) is not None:
        return [address]
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError as error:
        raise httpcore.ConnectTimeout(f"the name {host} was not resolved in time") from error
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"the name {host} is not known: {error}") from error
    return list(dict.fromkeys(str(info[4][0]) for info in found))
