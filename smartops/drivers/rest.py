"""REST services: errors say whether the effect of a request may have happened."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote

import httpx

from smartops import errors, redact
from smartops.drivers.rest_body import (
    BIGGEST_BODY,
    Body,
    BodyFormat,
    encode,
    parse,
    read_beginning,
    read_limited,
)
from smartops.drivers.rest_connection import ApiKey, Connection, Signing
from smartops.drivers.rest_exchange import AWAY, REDIRECTS, Call, Exchange
from smartops.drivers.retry_after import retry_after
from smartops.rehearsal import check_url

__all__ = ["Answer", "ApiKey", "Connection", "RestDriver", "Signing", "open_service"]

T = TypeVar("T")
logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it prints each URL with its query
logging.getLogger("httpcore").setLevel(logging.WARNING)

_SHOWN_OF_BODY = 300
_READ_OF_REFUSAL = 100_000
"""More of it is not read: its connection is given up then."""
_LATER = frozenset({429, 503})  # the service says that it did not take the request
_WHOLE = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True)
class Answer:
    """What a service answered. ``body`` is the parsed JSON where it is JSON, else the text."""

    status: int
    headers: Mapping[str, str]
    body: Any
    elapsed_s: float
    location: str | None = None
    """Where the answer says that the thing is which was made, as a whole URL."""
    url: httpx.URL = field(default_factory=httpx.URL, repr=False)
    """Where it came from in the end."""
    next_url: httpx.URL | None = field(default=None, repr=False)
    """Where it says that the next page is (Link header)."""


@asynccontextmanager
async def open_service(connection: Connection) -> AsyncIterator[RestDriver]:
    """Give a client for the service; its connections are kept for who calls it next."""
    check_url(connection.name, connection.base_url)
    yield RestDriver(connection)


class RestDriver:
    """An open service: cookies are kept as long as it is open."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._cookies = httpx.Cookies()

    async def request(
        self,
        method: str,
        path: str | httpx.URL,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        body_format: BodyFormat = "json",
        expect_status: Collection[int] = (),
        repeatable: bool = True,
        max_bytes: int = BIGGEST_BODY,
        on_sending: Callable[[], None] = lambda: None,
    ) -> Answer:
        """Send one request; ``repeatable`` says whether sending it twice would do no harm.

        ``path`` may be a whole URL of the service or of a host that the connection allows, or one
        that the service itself gave (httpx.URL); a ``Body`` is sent as it is. ``on_sending`` is
        called before the first byte of a request that is not repeatable leaves. Raises
        ServiceUnavailable, AuthenticationFailed, AddressRefused, UntrustedServer,
        ExpectationFailed, BadAnswer, and UnknownOutcome when a request that is not repeatable may
        have been taken.
        """
        what = f"{self.connection.name}: {method} {path}"
        made = body if isinstance(body, Body) else encode(body, body_format, what)
        call = Call(
            method,
            self.url(path, query),
            headers or {},
            made,
            repeatable,
            REDIRECTS & set(expect_status),
            on_sending,
        )
        began = time.perf_counter()
        async with self.answering(call) as (response, exchange):
            if not is_accepted(response.status_code, expect_status):
                raise await refusal(self.connection.name, response, exchange)
            content = b"" if method == "HEAD" else await read_limited(response, max_bytes, exchange)
            parsed = parse(response, content, exchange)
        return Answer(
            response.status_code,
            dict(response.headers),
            parsed,
            time.perf_counter() - began,
            _linked(response, response.headers.get("location"), str),
            response.request.url,
            _linked(response, response.links.get("next", {}).get("url"), httpx.URL),
        )

    @asynccontextmanager
    async def answering(self, call: Call) -> AsyncIterator[tuple[httpx.Response, Exchange]]:
        """Send a call and give its answer while it comes in; its errors are those of ``request``.

        What fails while the caller reads the answer is told in the same way.
        """
        exchange = Exchange(self.connection, call, self._cookies)
        total = self.connection.total_timeout
        try:
            async with asyncio.timeout(total.total_seconds() if total else None) as limit:
                response = await exchange.open()
                try:
                    yield response, exchange
                finally:
                    await response.aclose()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise exchange.lost("not done in its total time") from error
        except httpx.HTTPError as error:
            raise exchange.lost(type(error).__name__) from error
        except errors.TransientError as error:
            if exchange.taken:
                raise errors.UnknownOutcome(
                    f"{exchange.what}: taken, but what became of it is not known: {error}",
                    hint="Look in the service whether it was taken before the job is run again.",
                ) from error
            raise

    def url(self, path: str | httpx.URL, query: Mapping[str, Any] | None = None) -> httpx.URL:
        """Return the URL of a path below the base URL, or a whole URL that the connection allows.

        Raises BadInput.
        """
        name, base = self.connection.name, str(self.connection.base).rstrip("/")
        if isinstance(path, httpx.URL):
            target = path
        elif _WHOLE.match(path):
            target = self._whole(path)
        elif (
            path.startswith("//") or "\\" in path or ".." in unquote(path).split("?")[0].split("/")
        ):
            raise errors.BadInput(f"{name}: {path!r} is no path below the service's base URL")
        else:
            target = httpx.URL(base + (path if path.startswith("/") else f"/{path}"))
        return target.copy_merge_params(dict(query)) if query else target

    def _whole(self, path: str) -> httpx.URL:
        try:
            target = httpx.URL(path)
        except httpx.InvalidURL:
            target = httpx.URL()
        if target.userinfo or not self.connection.may_lead_to(target):
            raise errors.BadInput(
                f"{self.connection.name}: {path!r} is no path below the service's base URL, nor at "
                "a host that its connection allows"
            )
        return target


def is_accepted(status: int, expected: Collection[int]) -> bool:
    """Return whether a status is a success: one that is expected, or from 200 to 299."""
    return status in expected if expected else 200 <= status < 300


async def refusal(name: str, response: httpx.Response, exchange: Exchange) -> errors.SmartOpsError:
    """Return the error for an answer that is no success, with the first part of its body.

    The status alone decides which one, however large or broken the body is.
    """
    status = response.status_code
    content = await read_beginning(response, _READ_OF_REFUSAL, exchange)
    seen = redact.text(content[: 3 * _SHOWN_OF_BODY].decode("utf-8", "replace"))[:_SHOWN_OF_BODY]
    text = f"{exchange.what}: answered {status} {response.reason_phrase}: {seen}".rstrip(": ")
    if status in {401, 403}:
        return errors.AuthenticationFailed(
            text, hint=f"Check the credentials of connection {name!r}."
        )
    if status in _LATER or (status in AWAY and exchange.repeatable):
        unavailable = errors.ServiceUnavailable(text)
        unavailable.retry_after = retry_after(response.headers.get("retry-after", ""))
        return unavailable
    if status >= 500 and not exchange.repeatable:
        return errors.UnknownOutcome(text, hint="Look in the service whether it was taken.")
    return errors.ExpectationFailed(text)


def _linked(
    response: httpx.Response, given: str | None, kind: Callable[[httpx.URL], T]
) -> T | None:
    """Return where an answer leads, as a whole URL."""
    try:
        return None if given is None else kind(response.request.url.join(given))
    except httpx.InvalidURL:
        return None
