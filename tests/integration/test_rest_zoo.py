"""The REST driver against a service with every habit: each has a defined result."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import trustme

from smartops import errors, redact
from smartops.drivers import rest, rest_address, rest_network
from smartops.drivers.quarantine import Patience
from smartops.drivers.rest_oauth import OAuth, Tokens
from smartops.drivers.rest_pool import Tls
from smartops.drivers.rest_rate import parse_rate, wait_for_turn
from smartops.drivers.retry_after import retry_after
from tests import rest_zoo
from tests.rest_zoo import SECRET, Zoo


@pytest.fixture
async def zoo() -> AsyncIterator[Zoo]:
    async with rest_zoo.running() as running:
        yield running


async def call(url: str, path: str, method: str = "GET", **options: Any) -> rest.Answer:
    """One request; what is no option of a request is one of the connection."""
    asks = {"query", "headers", "body", "body_format", "expect_status", "repeatable", "max_bytes"}
    asked = {name: options.pop(name) for name in asks & set(options)}
    options.setdefault("timeout", timedelta(seconds=10))
    if "own_headers" in options:
        options["headers"] = options.pop("own_headers")
    async with rest.open_service(rest.Connection("zoo", url, **options)) as client:
        return await client.request(method, path, **asked)


# --- who may come in --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "login"),
    [
        ("basic", {"username": "me", "password": SECRET}),
        ("bearer", {"token": SECRET}),
        ("header", {"api_key": rest.ApiKey(SECRET, "X-Zoo-Key")}),
        ("query", {"api_key": rest.ApiKey(SECRET, "key", "query")}),
    ],
)
async def test_each_way_to_log_in(zoo: Zoo, way: str, login: dict[str, Any]) -> None:
    """It opens the door; without it the error names neither the secret nor the query."""
    assert (await call(zoo.url, f"/private/{way}", **login)).body == {"in": True}
    redact.register(SECRET)
    with pytest.raises(errors.AuthenticationFailed) as error:
        await call(zoo.url, f"/private/{way}", query={"who": "x"})
    assert f"GET {zoo.url}/private/{way}: answered 401" in error.value.one_line
    assert SECRET not in error.value.one_line
    assert "who" not in error.value.one_line


async def test_a_login_in_the_base_url(zoo: Zoo) -> None:
    """It is used, and shown nowhere."""
    url = zoo.url.replace("//", f"//me:{SECRET}@")
    assert (await call(url, "/private/basic")).body == {"in": True}
    with pytest.raises(errors.ExpectationFailed) as error:
        await call(url, "/status/404")
    assert SECRET not in str(error.value)


def oauth(zoo: Zoo, **options: Any) -> dict[str, Any]:
    secret = options.pop("secret", SECRET)
    return {"oauth": OAuth(f"{zoo.url}/token", "zoo-client", secret, **options)}


@pytest.mark.parametrize("in_body", [True, False])
async def test_one_token_for_many(zoo: Zoo, home: Path, in_body: bool) -> None:
    """Thirty calls at once get one token between them, and later ones use it still."""
    login = oauth(zoo, in_body=in_body, scope="read", audience="zoo")
    many = [call(zoo.url, "/private/oauth", **login) for _ in range(30)]
    assert {answer.status for answer in await asyncio.gather(*many)} == {200}
    await call(zoo.url, "/private/oauth", **login)
    assert zoo.tokens == 1
    asked = next(one for one in zoo.asked if one.path == "/token").body.decode()
    assert "grant_type=client_credentials&scope=read&audience=zoo" in asked


async def test_tokens_are_kept_for_their_owner_alone(zoo: Zoo, home: Path) -> None:
    """In a file with mode 0600 that says nothing, and that another secret cannot open."""
    await call(zoo.url, "/private/oauth", **oauth(zoo))
    [kept] = [file for file in (home / "tokens").iterdir() if file.suffix != ".lock"]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert b"at-1" not in kept.read_bytes()
    assert redact.text(f"at-1-{SECRET}") == redact.MASK
    with pytest.raises(errors.AuthenticationFailed, match="invalid_client"):
        await call(zoo.url, "/private/oauth", **oauth(zoo, secret="another-secret"))


async def test_a_token_that_has_ended_or_is_refused(zoo: Zoo, home: Path) -> None:
    """A new one is got: once before its end, once when the service does not take it any more."""
    zoo.lifetime_s = 0
    for _ in range(2):
        await call(zoo.url, "/private/oauth", **oauth(zoo))
    assert zoo.tokens == 2
    zoo.lifetime_s = None
    await call(zoo.url, "/private/oauth", **oauth(zoo))
    zoo.refused.add(f"at-3-{SECRET}")
    await call(zoo.url, "/private/oauth", "POST", body={"n": 1}, repeatable=False, **oauth(zoo))
    assert zoo.tokens == 4
    assert zoo.asked[-1].body == b'{"n":1}'
    assert zoo.asked[-1].headers["content-type"] == "application/json"


async def test_refresh_tokens_that_change(zoo: Zoo, home: Path) -> None:
    """The newest is kept; where that is refused, the one of the connection is tried again."""
    zoo.lifetime_s = 0
    login = oauth(zoo, refresh_token="rt-0")
    for _ in range(3):
        await call(zoo.url, "/private/oauth", **login)
    used = [one.body.decode() for one in zoo.asked if one.path == "/token"]
    assert ["refresh_token=rt-0" in used[0], "rt-1-" in used[1], "rt-2-" in used[2]] == [True] * 3
    zoo.refused = {f"rt-3-{SECRET}"}
    await call(zoo.url, "/private/oauth", **login)
    zoo.refused |= {"rt-0", f"rt-4-{SECRET}"}
    with pytest.raises(errors.AuthenticationFailed, match="invalid_grant"):
        await call(zoo.url, "/private/oauth", **login)


async def test_no_token_means_nothing_was_sent(zoo: Zoo, home: Path) -> None:
    """The token's service is away: the call itself may be tried again, even an unsafe one."""
    login = {"oauth": OAuth(f"{zoo.url}/status/503", "zoo-client", SECRET)}
    with pytest.raises(errors.ServiceUnavailable) as error:
        await call(zoo.url, "/commit?name=x", "POST", repeatable=False, **login)
    assert error.value.not_done
    assert zoo.committed == []


async def test_tokens_of_another_process(zoo: Zoo, home: Path) -> None:
    """A token that a service refused is not got anew where another process has a newer one."""
    made: list[str] = []

    async def post(*_: Any) -> tuple[int, Any]:
        made.append(f"token-{len(made)}")
        return 200, {"access_token": made[-1], "expires_in": "3600"}

    one = Tokens("zoo", OAuth("https://x/token", "c", SECRET), post)
    other = Tokens("zoo", OAuth("https://x/token", "c", SECRET), post)
    assert await one.access() == "token-0"
    assert await other.access(refused="token-0") == "token-1"
    assert await one.access(refused="token-0") == "token-1"


async def test_mutual_tls(tmp_path: Path) -> None:
    """Our certificate opens the door; an unknown authority, or none of ours, keeps it shut."""
    ca = trustme.CA()
    server, ours = ca.issue_cert("127.0.0.1"), ca.issue_cert("client@example.com")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.configure_cert(context)
    ca.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    with_ca = Tls(str(tmp_path / "ca.pem"))
    with_both = Tls(str(tmp_path / "ca.pem"), str(tmp_path / "client.pem"))
    async with rest_zoo.running(context) as zoo:
        assert (await call(zoo.url, "/echo", tls=with_both)).status == 200
        with pytest.raises(errors.UntrustedServer, match="certificate is not trusted"):
            await call(zoo.url, "/echo")
        # TLS 1.3 tells us when the request is on its way already, and a reset may hide even that.
        with pytest.raises((errors.AuthenticationFailed, errors.UnknownOutcome)):
            await call(zoo.url, "/commit?name=x", "POST", repeatable=False, tls=with_ca)
        with pytest.raises(errors.BadInput, match="cannot be read"):
            await call(zoo.url, "/echo", tls=Tls(str(tmp_path / "none.pem")))
        with pytest.raises(errors.BadInput, match="cannot be used"):
            await call(zoo.url, "/echo", tls=Tls(__file__))
        assert zoo.committed == []
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_server(("127.0.0.1", 0)) as listener:
        refusing = asyncio.create_task(asyncio.to_thread(_refuse, listener, context))
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(errors.AuthenticationFailed, match="refuses the secured connection"):
            await call(url, "/x", "POST", repeatable=False, tls=with_ca)
        await refusing


def _refuse(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Say why, as OpenSSL does by itself; asyncio hangs up without a word."""
    wire, _ = listener.accept()
    with wire, contextlib.suppress(ssl.SSLError):
        context.wrap_socket(wire, server_side=True)


# --- answers ----------------------------------------------------------------------------------


async def test_broken_json(zoo: Zoo) -> None:
    """What says JSON and ends in the middle is a bad answer."""
    with pytest.raises(errors.BadAnswer, match="says JSON"):
        await call(zoo.url, "/broken-json")


@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_slow_drip(zoo: Zoo, repeatable: bool) -> None:
    """The total time ends an answer of which a little comes all the time."""
    wanted = errors.ServiceUnavailable if repeatable else errors.UnknownOutcome
    began = time.monotonic()
    with pytest.raises(wanted, match="not done in its total time"):
        await call(zoo.url, "/drip", repeatable=repeatable, total_timeout=timedelta(seconds=0.5))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("path", ["/reset", "/hang-up"])
@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_reset(zoo: Zoo, path: str, repeatable: bool) -> None:
    """In the middle or before the answer: transient, or unknown; the unsafe one was sent once."""
    wanted = errors.ServiceUnavailable if repeatable else errors.UnknownOutcome
    with pytest.raises(wanted):
        await call(zoo.url, path, repeatable=repeatable)
    assert len(zoo.asked) == (2 if repeatable and path == "/hang-up" else 1)


async def test_a_connection_that_was_closing(zoo: Zoo) -> None:
    """What may be repeated is sent once more at once; what may not is not."""
    assert (await call(zoo.url, "/once-stale")).body == {"fine": True}
    zoo.counts.clear()
    with pytest.raises(errors.UnknownOutcome):
        await call(zoo.url, "/once-stale", repeatable=False)


@pytest.mark.parametrize("path", ["/endless", "/endless?said=1", "/bomb?coding=gzip"])
async def test_more_than_fits(zoo: Zoo, path: str) -> None:
    """10 GB, and little that unpacks to much: refused, within some megabytes."""
    own = psutil.Process()
    before = own.memory_info().rss
    with pytest.raises(errors.BadAnswer, match="larger than 1,000,000 bytes"):
        await call(zoo.url, path, max_bytes=1_000_000)
    assert own.memory_info().rss - before < 60_000_000


@pytest.mark.parametrize("coding", ["gzip", "two", "deflate", "bare"])
async def test_packed_answers(zoo: Zoo, coding: str) -> None:
    """Gzip in one part or two, deflate with and without its header."""
    assert (await call(zoo.url, f"/packed?coding={coding}")).body == {"packed": coding}


@pytest.mark.parametrize(
    ("coding", "said"), [("cut", "cut short"), ("wrong", "cannot be unpacked"), ("br", "as br")]
)
async def test_packed_badly(zoo: Zoo, coding: str, said: str) -> None:
    """A bad answer, and what is wrong with it."""
    with pytest.raises(errors.BadAnswer, match=said):
        await call(zoo.url, f"/packed?coding={coding}")


@pytest.mark.parametrize(
    ("form", "body", "kind", "sent"),
    [
        ("json", {"ä": [1, None]}, "application/json", '{"ä":[1,null]}'),
        (
            "form",
            {"a": "ü&", "b": [1, True]},
            "application/x-www-form-urlencoded",
            "a=%C3%BC%26&b=1&b=true",
        ),
        ("text", "plain ä", "text/plain; charset=utf-8", "plain ä"),
        ("multipart", {"a": 1}, "multipart/form-data", 'name="a"\r\n\r\n1'),
        (
            "multipart",
            {"f": {"content": "x,y", "filename": "f.csv", "type": "text/csv"}},
            "multipart/form-data",
            'filename="f.csv"\r\nContent-Type: text/csv\r\n\r\nx,y',
        ),
    ],
)
async def test_bodies(zoo: Zoo, form: Any, body: Any, kind: str, sent: str) -> None:
    """Each form of a body, as the service sees it."""
    seen = (await call(zoo.url, "/echo", "POST", body=body, body_format=form)).body
    assert seen["headers"]["content-type"].startswith(kind)
    assert sent in seen["body"]


@pytest.mark.parametrize(
    ("form", "body"),
    [("json", float("nan")), ("form", [1]), ("form", {"a": {}}), ("multipart", {"a": {"b": 1}})],
)
async def test_bodies_that_cannot_be(zoo: Zoo, form: Any, body: Any) -> None:
    """Refused before anything is sent."""
    with pytest.raises(errors.BadInput):
        await call(zoo.url, "/echo", "POST", body=body, body_format=form)
    assert zoo.asked == []


async def test_cookies_last_as_long_as_the_service_is_open(zoo: Zoo) -> None:
    """A session goes on within a step, and not into the next one."""
    for _ in range(2):
        async with rest.open_service(rest.Connection("zoo", zoo.url)) as client:
            assert (await client.request("GET", "/cookie")).body == {"had": ""}
            assert (await client.request("GET", "/cookie")).body == {"had": "zoo=1"}


# --- where it may lead ------------------------------------------------------------------------


async def test_redirects_at_home_keep_the_login(zoo: Zoo) -> None:
    """Followed, with the login, and 303 makes a GET of a POST."""
    login: dict[str, Any] = {"token": SECRET}
    for status in (301, 302, 303, 307, 308):
        there = f"/redirect?to=/private/bearer&status={status}"
        assert (await call(zoo.url, there, **login)).body == {"in": True}
    seen = (await call(zoo.url, "/redirect?to=/echo&status=303", "POST", body=1, **login)).body
    assert (seen["method"], seen["body"]) == ("GET", "")
    seen = (await call(zoo.url, "/redirect?to=/echo&status=307", "POST", body=1, **login)).body
    assert (seen["method"], seen["body"]) == ("POST", "1")
    assert seen["headers"]["content-type"] == "application/json"


@pytest.mark.parametrize(("status", "method"), [(301, "POST"), (302, "POST"), (302, "PUT")])
async def test_redirects_that_may_mean_two_things(zoo: Zoo, status: int, method: str) -> None:
    """A moved POST is not guessed about."""
    with pytest.raises(errors.ExpectationFailed, match=str(status)):
        await call(zoo.url, f"/redirect?to=/echo&status={status}", method)
    assert len(zoo.asked) == 1


async def test_redirects_may_be_what_is_wanted(zoo: Zoo) -> None:
    """An expected redirect is the answer; none is followed where the connection says so."""
    answer = await call(zoo.url, "/redirect?to=/echo", expect_status=[302])
    assert (answer.status, answer.location) == (302, f"{zoo.url}/echo")
    with pytest.raises(errors.ExpectationFailed, match="302"):
        await call(zoo.url, "/redirect?to=/echo", max_redirects=0)
    with pytest.raises(errors.BadAnswer, match="more than 5 times"):
        await call(zoo.url, "/round")


async def test_another_host_only_where_it_is_allowed(zoo: Zoo) -> None:
    """And without the login, the headers of the connection, and the cookies."""
    async with rest_zoo.running() as other:
        there = f"/redirect?to={other.url.replace('127.0.0.1', 'localhost')}/echo"
        login: dict[str, Any] = {"token": SECRET, "own_headers": {"X-Own": "yes"}}
        with pytest.raises(errors.AddressRefused, match="localhost"):
            await call(zoo.url, there, **login)
        assert other.asked == []
        answer = await call(zoo.url, there, **login, allowed_hosts=("localhost",))
        assert SECRET not in json.dumps(answer.body)
        assert "x-own" not in answer.body["headers"]
        # Another port of the same host is another service.
        with pytest.raises(errors.AddressRefused):
            await call(zoo.url, f"/redirect?to={other.url}/echo", **login)


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest",
        "http://10.0.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://[fd00:ec2::254]/",
        "file:///etc/passwd",
        "http://[::1]:1/",
        "//10.0.0.1/x",
    ],
)
async def test_redirects_to_private_addresses(zoo: Zoo, to: str) -> None:
    """Refused, whatever the pattern of allowed hosts says; nothing is sent there."""
    with pytest.raises(errors.AddressRefused):
        await call(zoo.url, f"/redirect?to={to}")


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("8.8.8.8", "public"), ("10.1.2.3", "private"), ("100.64.0.1", "private"),
        ("127.0.0.1", "private"), ("169.254.1.1", "forbidden"), ("100.100.100.200", "forbidden"),
        ("::ffff:169.254.169.254", "forbidden"), ("64:ff9b::a9fe:a9fe", "forbidden"),
        ("2002:0a00:0001::", "private"), ("fe80::1%eth0", "forbidden"), ("fc00::1", "private"),
        ("0.0.0.0", "forbidden"), ("224.0.0.1", "forbidden"), ("2606:4700::1111", "public"),
    ],
)  # fmt: skip
def test_kinds_of_addresses(address: str, kind: str) -> None:
    """Also where an IPv4 address hides in an IPv6 one."""
    assert rest_address.kind_of(address) == kind


@pytest.mark.parametrize(
    ("private", "host", "address", "good"),
    [
        ("declared", "mes.plant", "10.0.0.5", True),
        ("declared", "mes.plant", "169.254.169.254", False),
        ("declared", "x.example.com", "10.0.0.5", False),
        ("declared", "x.example.com", "93.184.216.34", True),
        ("none", "mes.plant", "10.0.0.5", False),
        ("none", "mes.plant", "93.184.216.34", True),
        ("all", "x.example.com", "169.254.169.254", True),
    ],
)
def test_which_addresses_may_be_used(
    home: Path, private: Any, host: str, address: str, good: bool
) -> None:
    """Private ones of hosts that the connection names itself; of no others."""
    reach = rest_address.Reach("mes", frozenset({"mes.plant"}), private)
    if good:
        assert reach.permitted(host, [address, "224.0.0.1"])[0] == address
    else:
        with pytest.raises(errors.AddressRefused, match=address):
            reach.permitted(host, [address])


def test_a_name_that_turns_inwards(home: Path) -> None:
    """What once was public is not followed to a private address, by no process of the machine."""
    reach = rest_address.Reach("api", frozenset({"api.example.com"}))
    assert reach.permitted("api.example.com", ["93.184.216.34"])
    with pytest.raises(errors.AddressRefused):
        reach.permitted("api.example.com", ["127.0.0.1"])
    assert rest_address.Reach("api", frozenset({"api.example.com"}), "all").permitted(
        "api.example.com", ["127.0.0.1"]
    )


async def test_a_name_that_changes_between_check_and_connect(
    zoo: Zoo, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is asked for once, and what was checked is connected to."""
    answers = iter([[(2, 1, 6, "", ("127.0.0.1", 0))]])
    loop = asyncio.get_running_loop()

    async def resolve(host: str, *_: Any, **__: Any) -> Any:
        assert host == "mes.plant"
        return next(answers)

    monkeypatch.setattr(loop, "getaddrinfo", resolve)
    url = zoo.url.replace("127.0.0.1", "mes.plant")
    seen = (await call(url, "/echo")).body
    assert seen["headers"]["host"] == url.removeprefix("http://")


async def test_whole_urls(zoo: Zoo) -> None:
    """Of the service itself, with its login; of others only where they are allowed."""
    login: dict[str, Any] = {"token": SECRET}
    assert (await call(zoo.url, f"{zoo.url}/private/bearer", **login)).body == {"in": True}
    for path in ("http://127.0.0.1:1/x", "ftp://127.0.0.1/x", "/a/../../b", "/a/%2e%2e/b"):
        with pytest.raises(errors.BadInput):
            await call(f"{zoo.url}/base", path, **login)


async def test_a_proxy(zoo: Zoo) -> None:
    """Requests go through it, with its credentials; they are in no error."""
    async with rest_zoo.running() as proxy:
        url = proxy.url.replace("//", f"//me:{SECRET}@")
        with pytest.raises(errors.ExpectationFailed, match="404") as error:
            await call("http://198.51.100.7", "/x", proxy=url)
        assert proxy.asked[0].headers["host"] == "198.51.100.7"
        assert proxy.asked[0].headers["proxy-authorization"].startswith("Basic ")
        assert SECRET not in error.value.one_line


# --- limits -----------------------------------------------------------------------------------


async def test_connections_are_kept(zoo: Zoo) -> None:
    """Twenty steps use one connection; those that must not be repeated do not wait for it."""
    for _ in range(20):
        await call(zoo.url, "/echo")
    assert zoo.connections == 1


async def test_a_forked_child_shares_no_connection(zoo: Zoo) -> None:
    """What the child has of an open connection leads nowhere, and the parent's goes on."""
    await call(zoo.url, "/echo")
    port = int(zoo.url.rpartition(":")[2])
    wires = [stream.get_extra_info("socket") for stream in rest_network._open]
    [number] = [
        wire.fileno() for wire in wires if wire.fileno() >= 0 and wire.getpeername()[1] == port
    ]
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, os.readlink(f"/proc/self/fd/{number}").encode())  # noqa: PTH115
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.read() == os.devnull
    await asyncio.to_thread(os.waitpid, child, 0)
    await call(zoo.url, "/echo")
    assert zoo.connections == 1


async def test_a_rate_limit(zoo: Zoo, home: Path) -> None:
    """No span of its time has more requests than it says, whoever sends them."""
    rate = parse_rate("5/300ms")
    began = time.monotonic()
    await asyncio.gather(*(call(zoo.url, "/echo", rate=rate) for _ in range(16)))
    assert time.monotonic() - began >= 0.9


async def test_a_rate_counts_from_anew(home: Path) -> None:
    """Where the clock was set back, or the limit changed, nobody waits for ever."""
    await wait_for_turn("rest://x", parse_rate("1/h"))
    async with asyncio.timeout(5):
        await wait_for_turn("rest://x", parse_rate("2/h"))
    [file] = (home / "wires").glob("*.rate")
    ahead = time.time() + 86_400
    file.write_bytes(file.read_bytes()[:16] + struct.pack("<dd", ahead, ahead))
    async with asyncio.timeout(5):
        await wait_for_turn("rest://x", parse_rate("2/h"))


@pytest.mark.parametrize("text", ["10", "0/s", "x/s", "10/0s", "99999999/s", "10/y"])
def test_rates_that_are_none(text: str) -> None:
    """Said so when they are written."""
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)


async def test_a_host_that_does_not_answer(zoo: Zoo, home: Path) -> None:
    """It is left alone after some failures in a row, and answers are no failures."""
    changes: list[str] = []
    patience = Patience(after=3, tell=lambda change: changes.append(change.state))
    for path in ("/status/503", "/status/404", "/status/503", "/hang-up", "/status/502"):
        with pytest.raises(errors.SmartOpsError):
            await call(zoo.url, path, patience=patience)
    asked = len(zoo.asked)
    with pytest.raises(errors.ServiceUnavailable, match="left alone") as error:
        await call(zoo.url, "/commit?name=x", "POST", repeatable=False, patience=patience)
    assert (error.value.not_done, error.value.retry_after is not None) == (True, True)
    assert (len(zoo.asked), changes) == (asked, ["quarantined"])
    [note] = (home / "wires").glob("*.quarantine")
    note.write_text(json.dumps({**json.loads(note.read_text()), "try_at": 0}))
    assert (await call(zoo.url, "/echo", patience=patience)).status == 200
    assert changes == ["quarantined", "back"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("Wed, 21 Oct 2026 07:28:05 GMT", 5), ("Wed, 21 Oct 2026 07:28:05 -0000", 5),
     ("Wed, 21 Oct 2025 07:28:00 GMT", 0), ("999999", 3600), ("soon", None), ("", None)],
)  # fmt: skip
def test_retry_after(text: str, seconds: float | None) -> None:
    """Seconds and dates; never longer than an hour."""
    from datetime import UTC, datetime

    found = retry_after(text, datetime(2026, 10, 21, 7, 28, tzinfo=UTC))
    assert (None if found is None else found.total_seconds()) == seconds


# --- effects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("then", ["drop", "half", "silence", "gateway", "see-other"])
async def test_done_and_not_told(zoo: Zoo, then: str) -> None:
    """However the answer gets lost: unknown, and it was done once."""
    with pytest.raises(errors.UnknownOutcome):
        await call(
            zoo.url,
            f"/commit?name=x&then={then}",
            "POST",
            repeatable=False,
            timeout=timedelta(seconds=2 if then == "silence" else 10),
        )
    assert zoo.committed == ["x"]


async def test_a_thousand_unsafe_calls(zoo: Zoo) -> None:
    """Every third answer is lost: none is done twice, and each that may be in doubt is said."""
    ways = ("answer", "drop", "half")

    async def one(number: int) -> str:
        async with limit:
            try:
                path = f"/commit?name={number}&then={ways[number % 3]}"
                await call(zoo.url, path, "POST", repeatable=False)
            except errors.UnknownOutcome:
                return "unknown"
            return "done"

    limit = asyncio.Semaphore(20)
    found = await asyncio.gather(*(one(number) for number in range(1000)))
    assert sorted(zoo.committed, key=int) == [str(number) for number in range(1000)]
    assert [n for n, said in enumerate(found) if said == "unknown"] == [
        n for n in range(1000) if n % 3
    ]
