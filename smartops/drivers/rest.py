"""REST services: errors say whether the effect of a request may have happened."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from smartops import errors, redact
from smartops.rehearsal import check_url

logging.getLogger("httpx").setLevel(logging.WARNING)  # at INFO it prints each URL with its query

_BIGGEST_BODY = 10_000_000
_SHOWN_OF_BODY = 300
_LONGEST_WAIT_S = 3600
_LATER = frozenset({429, 503})  # the service says that it did not take the request
_GATEWAY = frozenset({502, 504})  # the service behind the gateway may have taken it


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


@dataclass(frozen=True)
class Answer:
    """What a service answered. ``body`` is the parsed JSON where it is JSON, else the text."""

    status: int
    headers: Mapping[str, str]
    body: Any
    elapsed_s: float


@asynccontextmanager
async def open_service(connection: Connection) -> AsyncIterator[RestDriver]:
    """Give a client for the service; its connections close at the end."""
    check_url(connection.name, connection.base_url)
    headers = dict(connection.headers)
    if connection.token:
        headers["Authorization"] = f"Bearer {connection.token}"
    auth = None
    if connection.username is not None:
        auth = httpx.BasicAuth(connection.username, connection.password or "")
    async with httpx.AsyncClient(
        base_url=connection.base_url,
        headers=headers,
        auth=auth,
        timeout=connection.timeout.total_seconds(),
        follow_redirects=False,
        trust_env=False,
    ) as client:
        yield RestDriver(client, connection)


class RestDriver:
    """An open service."""

    def __init__(self, client: httpx.AsyncClient, connection: Connection) -> None:
        self._client = client
        self._connection = connection

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        expect_status: Collection[int] = (),
        repeatable: bool = True,
    ) -> Answer:
        """Send one request; ``repeatable`` says whether sending it twice would do no harm.

        Raises ServiceUnavailable, AuthenticationFailed, ExpectationFailed, BadAnswer, and
        UnknownOutcome when a request that is not repeatable may have been taken.
        """
        url = self._url(path)
        what = f"{self._connection.name}: {method} {path}"
        request = self._client.build_request(
            method, url, params=query or None, headers=headers, json=body
        )
        try:
            response = await self._client.send(request, stream=True)
            try:
                content = await _read_limited(response, what)
            finally:
                await response.aclose()
        except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:
            raise errors.BadInput(f"{what}: cannot be sent: {error}") from error
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise errors.ServiceUnavailable(
                f"{what}: no connection to {redact.text(self._connection.base_url)}",
                hint="Check the address and that the service is up.",
            ) from error
        except httpx.HTTPError as error:
            raise self._lost(what, error, repeatable) from error
        return self._judge(response, content, what, expect_status, repeatable)

    def _url(self, path: str) -> str:
        if "://" in path or path.startswith("//") or "\\" in path:
            raise errors.BadInput(
                f"{self._connection.name}: {path!r} is no path below the service's base URL"
            )
        return path if path.startswith("/") else f"/{path}"

    def _lost(self, what: str, error: httpx.HTTPError, repeatable: bool) -> errors.SmartOpsError:
        reason = type(error).__name__
        if repeatable:
            return errors.ServiceUnavailable(f"{what}: no answer ({reason})")
        return errors.UnknownOutcome(
            f"{what}: sent, but no answer came ({reason})",
            hint="Look in the service whether it was taken before the job is run again.",
        )

    def _judge(
        self,
        response: httpx.Response,
        content: bytes,
        what: str,
        expect_status: Collection[int],
        repeatable: bool,
    ) -> Answer:
        status = response.status_code
        if status in expect_status or (not expect_status and response.is_success):
            elapsed = response.elapsed.total_seconds()
            body = _parse(response, content, what)
            return Answer(status, dict(response.headers), body, elapsed)
        shown = redact.text(content[:_SHOWN_OF_BODY].decode("utf-8", "replace"))
        text = f"{what}: answered {status} {response.reason_phrase}: {shown}".rstrip(": ")
        if status in {401, 403}:
            raise errors.AuthenticationFailed(
                text, hint=f"Check the credentials of connection {self._connection.name!r}."
            )
        if status in _LATER or (status in _GATEWAY and repeatable):
            unavailable = errors.ServiceUnavailable(text)
            unavailable.retry_after = retry_after(response.headers.get("retry-after", ""))
            raise unavailable
        if status >= 500 and not repeatable:
            raise errors.UnknownOutcome(text, hint="Look in the service whether it was taken.")
        raise errors.ExpectationFailed(text)


def retry_after(text: str, now: datetime | None = None) -> timedelta | None:
    """Return how long a Retry-After header asks to wait: seconds, or a date (RFC 9110, 10.2.3)."""
    if text.strip().isdecimal():
        return timedelta(seconds=min(int(text), _LONGEST_WAIT_S))
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    left = (moment - (now or datetime.now(UTC))).total_seconds()
    return timedelta(seconds=min(max(left, 0.0), _LONGEST_WAIT_S))


async def _read_limited(response: httpx.Response, what: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _BIGGEST_BODY:
            raise errors.BadAnswer(f"{what}: the answer is larger than {_BIGGEST_BODY:,} bytes")
        parts.append(part)
    return b"".join(parts)


def _parse(response: httpx.Response, content: bytes, what: str) -> Any:
    try:
        text = content.decode(response.encoding or "utf-8", "replace").removeprefix("\ufeff")
    except LookupError:
        raise errors.BadAnswer(f"{what}: the answer is in an unknown character set") from None
    if "json" not in response.headers.get("content-type", "") or not text:
        return text
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise errors.BadAnswer(f"{what}: the answer says JSON but is none: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
