"""One call of a REST service: login, limits, and the redirects that it may lead to."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from smartops import errors, redact
from smartops.drivers import rest_pool
from smartops.drivers.quarantine import Quarantine
from smartops.drivers.rest_body import NOTHING, Body, parse, read_limited
from smartops.drivers.rest_connection import Connection, origin
from smartops.drivers.rest_oauth import Tokens
from smartops.drivers.rest_rate import wait_for_turn
from smartops.drivers.retry_after import retry_after
from smartops.rehearsal import check_host

_STANDARD = {"accept": "*/*", "accept-encoding": "gzip, deflate", "user-agent": "smartops"}
_BIGGEST_TOKEN = 1_000_000
_SENDING = "http11.send_request_headers.started"
AWAY = frozenset({502, 503, 504})
"""Answers that say that the service itself is away."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
_BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


@dataclass(frozen=True)
class Call:
    """What is asked for."""

    method: str
    url: httpx.URL
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = NOTHING
    repeatable: bool = True
    """Whether sending it twice would do no harm."""
    unfollowed: frozenset[int] = frozenset()
    """Redirects that are answers for whoever calls."""
    on_sending: Callable[[], None] = lambda: None
    """Called when the first byte of a call that is not repeatable is about to be sent."""


class Exchange:
    """A call under way."""

    def __init__(self, connection: Connection, call: Call, cookies: httpx.Cookies) -> None:
        self._connection, self._first, self._cookies = connection, call, cookies
        self._bearer: str | None = None
        self.sent = call.repeatable
        """Whether the service may have seen it."""
        self.taken = False
        """Whether the service has taken it and led us on to what became of it."""

    @property
    def repeatable(self) -> bool:
        """Whether the call may be made twice."""
        return self._first.repeatable

    def __str__(self) -> str:
        """Return the call in words, without secrets; whoever tells of it makes them then."""
        return self.what

    @property
    def what(self) -> str:
        """The call in words, without secrets."""
        return shown(self._connection.name, self._first.method, self._first.url)

    async def open(self) -> httpx.Response:
        """Return the last answer, of which nothing is read yet; it has to be closed."""
        call = self._first
        for _ in range(self._connection.max_redirects + 1):
            response = await self._logged_in(call)
            following = self._following(call, response)
            if following is None:
                return response
            await response.aclose()
            call = following
        raise errors.BadAnswer(
            f"{self.what}: leads on more than {self._connection.max_redirects} times"
        )

    async def _logged_in(self, call: Call) -> httpx.Response:
        """Send a call; where the service refuses our token, once more with a new one."""
        response = await self._send(call)
        if response.status_code == 401 and self._bearer and self._connection.is_own(call.url):
            await response.aclose()
            self._bearer = await self._tokens().access(refused=self._bearer)
            response = await self._send(call)
        return response

    def _following(self, call: Call, response: httpx.Response) -> Call | None:
        """Return the call that an answer redirects to, None where it does not or may not."""
        status, location = response.status_code, response.headers.get("location")
        if status in call.unfollowed or not location or not self._connection.max_redirects:
            return None
        is_read = call.method in {"GET", "HEAD"}
        if status not in (REDIRECTS if is_read else {303, 307, 308}):
            return None  # browsers turn a POST into a GET here, others do not
        url = self._target(call.url, location)
        if status == 303 and not is_read:
            self.taken = not call.repeatable
            return replace(call, method="GET", url=url, body=NOTHING)
        return replace(call, url=url)

    def _target(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            target = url.join(location)
        except httpx.InvalidURL:
            raise errors.BadAnswer(f"{self.what}: redirects to what is no URL") from None
        if target.scheme not in {"http", "https"} or (url.scheme, target.scheme) == (
            "https",
            "http",
        ):
            raise errors.AddressRefused(
                f"{self.what}: redirects to {target.scheme}, which is not safe"
            )
        return target

    async def _send(self, call: Call, *, again: bool = True) -> httpx.Response:
        connection = self._connection
        self._check(call.url)
        breaker = _breaker(connection, call.url)
        breaker.claim()
        if connection.rate is not None:
            await wait_for_turn(f"rest://{connection.name}", connection.rate)
        wire = await rest_pool.transport(connection.wire(call.url, once=not call.repeatable))
        breaker.begin()
        try:
            with ExitStack() as files:
                request = await self._request(call, files)
                response = await wire.handle_async_request(request)
        except httpx.HTTPError as error:
            if again and call.repeatable and isinstance(error, _BROKEN):
                return await self._send(call, again=False)  # it was closing when we used it
            breaker.failed(error)
            raise self.failure(error) from error
        request.url = call.url  # without the API key that may have gone with it
        response.request = request
        if "set-cookie" in response.headers:
            self._cookies.extract_cookies(response)
        breaker.judge(response.status_code)
        return response

    def _check(self, url: httpx.URL) -> None:
        """Raise AddressRefused or RehearsalRefused for what this call must not be sent to."""
        connection = self._connection
        check_host(connection.name, url.host)
        if not connection.may_lead_to(url):
            raise errors.AddressRefused(
                f"{self.what}: leads to {url.host}, which its connection does not name",
                hint="Add it to the connection's allowed hosts, if that is right.",
            )
        connection.reach.check_literal(url.host)

    async def _request(self, call: Call, files: ExitStack) -> httpx.Request:
        """Return the request with our credentials, where it goes to the service itself."""
        connection, url = self._connection, call.url
        content = call.body.make(files)
        headers = {**_STANDARD, **content.get("headers", {})}
        if connection.is_own(url):
            headers |= {**_lower(connection.headers), **_lower(call.headers)}
            headers |= await self._login()
            if connection.api_key is not None and connection.api_key.place == "query":
                url = url.copy_merge_params({connection.api_key.name: connection.api_key.value})
        else:
            headers |= _lower(call.headers)
        extensions: dict[str, Any] = {"timeout": connection.httpx_timeout}
        if not call.repeatable:
            extensions["trace"] = self._trace
        return httpx.Request(
            call.method,
            url,
            cookies=self._cookies if len(self._cookies.jar) else None,
            extensions=extensions,
            **{**content, "headers": headers},
        )

    async def _trace(self, event: str, _info: Mapping[str, Any]) -> None:
        if event == _SENDING and not self.sent:
            self.sent = True
            self._first.on_sending()

    async def _login(self) -> dict[str, str]:
        connection = self._connection
        if connection.oauth is not None:
            self._bearer = self._bearer or await self._tokens().access()
            return {"authorization": f"Bearer {self._bearer}"}
        if connection.token:
            return {"authorization": f"Bearer {connection.token}"}
        if connection.api_key is not None and connection.api_key.place == "header":
            return {connection.api_key.name.lower(): connection.api_key.value}
        if connection.basic is not None:
            encoded = base64.b64encode(":".join(connection.basic).encode()).decode()
            redact.register(encoded)
            redact.register(connection.basic[1])
            return {"authorization": f"Basic {encoded}"}
        return {}

    def _tokens(self) -> Tokens:
        oauth = self._connection.oauth
        if oauth is None:
            raise errors.BadInput(f"{self._connection.name} has no OAuth fields")
        return Tokens(self._connection.name, oauth, self._post_form)

    async def _post_form(self, url: str, headers: Mapping[str, str], form: str) -> tuple[int, Any]:
        """Ask for a token. Raises ServiceUnavailable: the call itself was not sent."""
        connection, target = self._connection, httpx.URL(url)
        check_host(connection.name, target.host)
        connection.reach.check_literal(target.host)
        wire = await rest_pool.transport(connection.wire(target, once=False))
        kind = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        what = shown(connection.name, "POST", target)
        request = httpx.Request(
            "POST",
            target,
            headers={**_STANDARD, **kind, **headers},
            content=form.encode(),
            extensions={"timeout": connection.httpx_timeout},
        )
        try:
            response = await wire.handle_async_request(request)
            try:
                content = await read_limited(response, _BIGGEST_TOKEN, what)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            raise _not_sent(f"{what}: no answer ({type(error).__name__})") from error
        if response.status_code in AWAY | {429, 500}:
            unavailable = _not_sent(f"{what}: answered {response.status_code}")
            unavailable.retry_after = retry_after(response.headers.get("retry-after", ""))
            raise unavailable
        return response.status_code, parse(response, content, what)

    def failure(self, error: httpx.HTTPError) -> errors.SmartOpsError:
        """Return what a failure of the connection means for the call."""
        if isinstance(error, (httpx.LocalProtocolError, httpx.UnsupportedProtocol)):
            return errors.BadInput(f"{self.what}: cannot be sent: {redact.text(str(error))}")
        if (refused := _tls_refusal(self.what, error)) is not None:
            return refused
        if isinstance(error, _NOT_SENT) and not self.taken:
            said = f": {error}" if isinstance(error, httpx.ProxyError) else ""
            return _not_sent(
                redact.text(f"{self.what}: no connection{said}"),
                hint="Check the address and that the service is up.",
            )
        return self.lost(type(error).__name__)

    def lost(self, reason: str) -> errors.SmartOpsError:
        """Return what it means that no whole answer came."""
        if self._first.repeatable:
            return errors.ServiceUnavailable(f"{self.what}: no answer ({reason})")
        if not self.sent:
            return _not_sent(f"{self.what}: not sent ({reason})")
        return errors.UnknownOutcome(
            f"{self.what}: sent, but no answer came ({reason})",
            hint="Look in the service whether it was taken before the job is run again.",
        )


class _Breaker:
    """Leaves a host alone for a while that has not answered several times in a row."""

    def __init__(self, quarantine: Quarantine) -> None:
        self._quarantine = quarantine

    def claim(self) -> None:
        """Raise ServiceUnavailable while the host is left alone."""
        try:
            self._quarantine.claim()
        except errors.DeviceQuarantined as error:
            unavailable = _not_sent(str(error), hint="Look at what the service's host says.")
            unavailable.retry_after = error.retry_after
            raise unavailable from None

    def begin(self) -> None:
        """Take note that a request goes out."""
        self._quarantine.begin()

    def failed(self, error: httpx.HTTPError) -> None:
        """Take note that no answer came."""
        if not isinstance(error, (httpx.PoolTimeout, httpx.LocalProtocolError)):
            self._quarantine.unanswered(type(error).__name__)

    def judge(self, status: int) -> None:
        """Take note of an answer; some say that the service is away."""
        if status in AWAY:
            self._quarantine.unanswered(f"answered {status}")
        else:
            self._quarantine.answered()


class _Open(_Breaker):
    """For connections that are never left alone."""

    def __init__(self) -> None:
        pass

    def claim(self) -> None:
        pass

    def begin(self) -> None:
        pass

    def failed(self, error: httpx.HTTPError) -> None:
        pass

    def judge(self, status: int) -> None:
        pass


def _breaker(connection: Connection, url: httpx.URL) -> _Breaker:
    if not connection.patience.after:
        return _Open()
    scheme, host, port = origin(url)
    resource = f"{scheme}://{host}:{port}"
    return _Breaker(Quarantine(connection.name, resource, "", connection.patience))


def _not_sent(text: str, hint: str = "") -> errors.ServiceUnavailable:
    error = errors.ServiceUnavailable(text, hint=hint)
    error.not_done = True
    return error


def _tls_refusal(what: str, error: BaseException) -> errors.SmartOpsError | None:
    """Return what it means where one side does not trust the other's certificate."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return errors.UntrustedServer(
            f"{what}: the server's certificate is not trusted: {cause.verify_message}",
            hint="Give the file of the authority that signed it as the connection's `ca_file`.",
        )
    if cause is not None and "ALERT" in (cause.reason or ""):
        said = (cause.reason or "").partition("ALERT_")[2].replace("_", " ").lower()
        return errors.AuthenticationFailed(
            f"{what}: the server refuses the secured connection: {said}",
            hint="Check the connection's client certificate.",
        )
    return None


def shown(name: str, method: str, url: httpx.URL) -> str:
    """Return a call in words; its query stays out, as secrets stand there."""
    return redact.text(f"{name}: {method} {url.copy_with(query=None, userinfo=b'', fragment=None)}")


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
