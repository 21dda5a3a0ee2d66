"""What is known of a REST service before it is called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Literal

import httpx

from smartops.drivers.quarantine import Patience
from smartops.drivers.rest_address import Private, Reach, is_allowed
from smartops.drivers.rest_oauth import OAuth
from smartops.drivers.rest_pool import Tls, Wire
from smartops.drivers.rest_rate import Rate

_NEVER = Patience(after=0)


@dataclass(frozen=True)
class ApiKey:
    """A key that is sent with each request, as a header or a query parameter."""

    value: str = field(repr=False)
    name: str = "X-API-Key"
    place: Literal["header", "query"] = "header"


@dataclass(frozen=True)
class Signing:
    """How bodies are signed for whoever receives them (HMAC with SHA-256)."""

    secret: str = field(repr=False)
    style: Literal["standard-webhooks", "body"] = "standard-webhooks"


@dataclass(frozen=True)
class Connection:
    """Where a service is and how to log in. ``token`` is sent as a bearer token."""

    name: str
    base_url: str
    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: timedelta = timedelta(seconds=10)
    """For more of an answer, and for the connection where ``connect_timeout`` does not say."""
    connect_timeout: timedelta | None = None
    total_timeout: timedelta | None = None
    api_key: ApiKey | None = None
    oauth: OAuth | None = None
    signing: Signing | None = None
    tls: Tls = field(default_factory=Tls)
    proxy: str | None = field(default=None, repr=False)
    """URL of a proxy, with its credentials."""
    allowed_hosts: tuple[str, ...] = ()
    private_addresses: Private = "declared"
    max_redirects: int = 5
    rate: Rate | None = None
    patience: Patience = _NEVER

    @cached_property
    def base(self) -> httpx.URL:
        """The base URL, without the credentials that may stand in it."""
        return httpx.URL(self.base_url).copy_with(userinfo=b"")

    @cached_property
    def basic(self) -> tuple[str, str] | None:
        """User name and password, which may also stand in the base URL."""
        url = httpx.URL(self.base_url)
        if self.username is not None:
            return self.username, self.password or ""
        return (url.username, url.password) if url.userinfo else None

    @cached_property
    def reach(self) -> Reach:
        """What this connection may reach."""
        urls = (self.base_url, self.proxy, self.oauth.url if self.oauth else None)
        named = {httpx.URL(url).host for url in urls if url}
        exact = {host for host in self.allowed_hosts if "*" not in host}
        return Reach(self.name, frozenset(named | exact), self.private_addresses)

    @cached_property
    def httpx_timeout(self) -> dict[str, float]:
        """The time limits of one exchange, as httpx takes them, in seconds."""
        wait_s = self.timeout.total_seconds()
        connect_s = (self.connect_timeout or self.timeout).total_seconds()
        return {"connect": connect_s, "read": wait_s, "write": wait_s, "pool": connect_s}

    def is_own(self, url: httpx.URL) -> bool:
        """Return whether a URL is at the service itself: it alone gets our credentials."""
        return origin(url) == origin(self.base)

    def may_lead_to(self, url: httpx.URL) -> bool:
        """Return whether a call may go to a URL: the service's own, secured, or an allowed host's.

        Another port of the service's host is another service.
        """
        if url.scheme not in {"http", "https"}:
            return False
        is_upgrade = origin(self.base) == ("http", url.host, 80) and origin(url)[::2] == (
            "https",
            443,
        )
        return self.is_own(url) or is_upgrade or is_allowed(url.host, self.allowed_hosts)

    def wire(self, url: httpx.URL, *, once: bool) -> Wire:
        """Return what a connection to a URL depends on."""
        gives_tokens = self.oauth is not None and origin(url) == origin(httpx.URL(self.oauth.url))
        is_trusted = self.is_own(url) or gives_tokens
        tls = self.tls if is_trusted else Tls(ca_file=self.tls.ca_file)
        return Wire(self.reach, url.scheme == "https", tls, self.proxy, once)


def origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)
