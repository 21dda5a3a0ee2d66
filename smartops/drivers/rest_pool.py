"""The connections to REST services that a process keeps open, for each of its event loops.

They end with their loop: it closes what is kept here when it shuts down. A forked child begins with
none.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from weakref import WeakKeyDictionary

import httpcore
import httpx

from smartops import errors
from smartops.drivers.rest_address import Reach
from smartops.drivers.rest_network import CheckedBackend

_IDLE_S = 4.0
"""How long an idle connection is kept: less than the 5 s after which common servers close it."""
_IDLE_ONCE_S = 0.5
"""The same for requests that must not be repeated: one that is being closed would lose them."""
_MOST = 50


@dataclass(frozen=True)
class Tls:
    """Which servers are trusted, and how we show who we are. Paths of PEM files."""

    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Wire:
    """All that one pool of connections depends on."""

    reach: Reach
    secured: bool
    """Whether it is for https."""
    tls: Tls = field(default_factory=Tls)
    proxy: str | None = field(default=None, repr=False)
    once: bool = False
    """Whether it is for requests that must not be repeated."""


_Key = tuple[Wire, tuple[float, ...]]
_Pools = dict[_Key, httpx.AsyncHTTPTransport]
_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, _Pools] = WeakKeyDictionary()
_ends: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None]] = WeakKeyDictionary()
os.register_at_fork(after_in_child=_pools.clear)


async def transport(wire: Wire) -> httpx.AsyncBaseTransport:
    """Return the pool of connections for a wire. Raises BadInput for certificates it cannot use."""
    loop = asyncio.get_running_loop()
    pools = _pools.get(loop)
    if pools is None:
        pools = _pools[loop] = {}
        end = _ends[loop] = _until_the_loop_ends(pools)
        await anext(end)
    key = (wire, _changed_at(wire.tls))
    if key not in pools:
        pools[key] = _made(*key)
    return pools[key]


async def _until_the_loop_ends(pools: _Pools) -> AsyncGenerator[None]:
    """Stand still until the loop shuts its generators down, then close all."""
    try:
        yield
    finally:
        for pool in pools.values():
            await pool.aclose()
        pools.clear()


def _made(wire: Wire, changed: tuple[float, ...]) -> httpx.AsyncHTTPTransport:
    made = httpx.AsyncHTTPTransport(
        verify=_context(wire.tls, changed) if wire.secured else _no_tls(),
        trust_env=False,
        proxy=wire.proxy,
        limits=httpx.Limits(
            max_connections=_MOST,
            max_keepalive_connections=_MOST,
            keepalive_expiry=_IDLE_ONCE_S if wire.once else _IDLE_S,
        ),
    )
    pool = made._pool
    if not isinstance(pool, httpcore.AsyncConnectionPool):
        raise TypeError("this version of httpx has other pools")
    pool._network_backend = CheckedBackend(wire.reach)  # no public way leads there
    return made


def _no_tls() -> ssl.SSLContext:
    """Return a context that trusts nobody; reading the usual authorities takes a while."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _changed_at(tls: Tls) -> tuple[float, ...]:
    """Return when the files changed last: a renewed certificate is used from then on."""
    files = (tls.ca_file, tls.certificate, tls.key)
    try:
        return tuple(Path(file).stat().st_mtime for file in files if file)
    except OSError as error:
        raise errors.BadInput(f"a file of the connection cannot be read: {error}") from error


@lru_cache(maxsize=32)
def _context(tls: Tls, _changed: tuple[float, ...]) -> ssl.SSLContext:
    try:
        if tls.ca_file:
            context = ssl.create_default_context(cafile=tls.ca_file)
        else:
            context = httpx.create_ssl_context(trust_env=False)
        if tls.certificate:
            context.load_cert_chain(tls.certificate, tls.key, lambda: tls.key_password or "")
    except (OSError, ValueError) as error:
        raise errors.BadInput(
            f"the certificates of the connection cannot be used: {error}",
            hint="Check the paths, that the files are PEM, and the key's password.",
        ) from error
    return context
