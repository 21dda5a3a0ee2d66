"""A REST service with all the habits that services have, good ones and bad ones."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

FILE = bytes(range(256)) * 4000
"""What /file gives: a million bytes."""
ETAG = '"v1"'
ITEMS = [{"id": number} for number in range(1, 24)]
SECRET = "zoo-s3cret-canary"
BOMB = 300_000_000
"""How many bytes /bomb unpacks to."""


@dataclass
class Asked:
    """One request, as the service saw it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    connection: int


Answer = Callable[["Zoo", Asked, asyncio.StreamWriter], Awaitable[bool | None]]
_routes: dict[str, Answer] = {}


def at(path: str) -> Callable[[Answer], Answer]:
    """Answer a path, and what is below it where it ends with a slash."""

    def add(answer: Answer) -> Answer:
        _routes[path] = answer
        return answer

    return add


def raw(status: int, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """Return an answer as it goes over the wire."""
    lines = {"content-length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode() + body


def reply(
    out: asyncio.StreamWriter, body: Any, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    """Answer with JSON."""
    kind = {"content-type": "application/json"}
    out.write(raw(status, json.dumps(body).encode(), {**kind, **(headers or {})}))


@dataclass
class Zoo:
    """The running service, and what it was asked."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    committed: list[str] = field(default_factory=list)
    """What was done for good, by its name."""
    tokens: int = 0
    """How many OAuth tokens were given."""
    refused: set[str] = field(default_factory=set)
    """Tokens that are not taken any more."""
    lifetime_s: float | None = 3600
    serving: dict[asyncio.Task[Any], asyncio.StreamWriter] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> int:
        """Return how often something was asked for, this time included."""
        self.counts[what] = self.counts.get(what, 0) + 1
        return self.counts[what]

    def paths(self) -> list[str]:
        """Return the paths that were asked for, in their order."""
        return [asked.path for asked in self.asked]

    async def serve(self, reader: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self.serving[task] = out
        try:
            while (asked := await _read(reader, number)) is not None:
                self.asked.append(asked)
                path = asked.path
                answer = _routes.get(path) or _routes.get(path[: path.find("/", 1) + 1], _unknown)
                if await answer(self, asked, out):
                    break
                await out.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            out.transport.abort()  # the caller has had enough of it, or the zoo closes
        out.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await out.wait_closed()
        del self.serving[task]


async def _read(reader: asyncio.StreamReader, connection: int) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    return Asked(method, parts.path, dict(parse_qsl(parts.query)), headers, body, connection)


@asynccontextmanager
async def running(tls: ssl.SSLContext | None = None) -> AsyncIterator[Zoo]:
    """Give a zoo on a free port of this machine."""
    zoo = Zoo()
    server = await asyncio.start_server(zoo.serve, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    zoo.url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield zoo
    finally:
        server.close()
        serving = list(zoo.serving)
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _unknown(_zoo: Zoo, _asked: Asked, out: asyncio.StreamWriter) -> None:
    reply(out, {"error": "no such thing"}, 404)


@at("/echo")
async def _echo(_zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    text = asked.body.decode("utf-8", "replace")
    shown = {"method": asked.method, "query": asked.query, "headers": asked.headers, "body": text}
    reply(out, shown, headers={"x-zoo": "Echo 1"})


@at("/status/")
async def _status(zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    """/status/503?times=2: that often, and then 200; ``page`` says how large its page is."""
    status = int(asked.path.rpartition("/")[2])
    often = zoo.count(asked.path)
    if often > int(asked.query.get("times", 1_000_000)):
        reply(out, {"tries": often})
        return
    wait = asked.query.get("wait")
    why = "because ".ljust(int(asked.query.get("page", 0)), "x")
    reply(out, {"why": why.strip()}, status, {"retry-after": wait} if wait else {})


# --- who may come in --------------------------------------------------------------------------


@at("/private/")
async def _private(zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    """/private/basic, bearer, header, query, oauth."""
    given = asked.headers.get("authorization", "")
    basic = base64.b64encode(f"me:{SECRET}".encode()).decode()
    good = {
        "basic": given == f"Basic {basic}",
        "bearer": given == f"Bearer {SECRET}",
        "header": asked.headers.get("x-zoo-key") == SECRET,
        "query": asked.query.get("key") == SECRET,
        "oauth": given.startswith("Bearer at-")
        and given.removeprefix("Bearer ") not in zoo.refused,
    }[asked.path.rpartition("/")[2]]
    if good:
        reply(out, {"in": True})
    else:
        reply(out, {"told": f"you are not {SECRET}"}, 401)


@at("/token")
async def _token(zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    """Tokens by client credentials (in the header or the form) and by refresh tokens, once each."""
    form = dict(parse_qsl(asked.body.decode()))
    basic = base64.b64encode(f"zoo-client:{SECRET}".encode()).decode()
    in_header = asked.headers.get("authorization") == f"Basic {basic}"
    in_form = (form.get("client_id"), form.get("client_secret")) == ("zoo-client", SECRET)
    if not (in_header or in_form):
        reply(out, {"error": "invalid_client", "error_description": f"not {SECRET}"}, 401)
        return
    refresh = form.get("refresh_token")
    if refresh is not None and refresh in zoo.refused:
        reply(out, {"error": "invalid_grant"}, 400)
        return
    await asyncio.sleep(0.05)  # long enough for others to ask meanwhile
    zoo.tokens += 1
    given: dict[str, Any] = {"access_token": f"at-{zoo.tokens}-{SECRET}", "token_type": "bearer"}
    if zoo.lifetime_s is not None:
        given["expires_in"] = zoo.lifetime_s
    if refresh is not None:
        zoo.refused.add(refresh)
        given["refresh_token"] = f"rt-{zoo.tokens}-{SECRET}"
    reply(out, given)


# --- answers that are no good -----------------------------------------------------------------


@at("/broken-json")
async def _broken(_zoo: Zoo, _asked: Asked, out: asyncio.StreamWriter) -> None:
    out.write(raw(200, b'{"a": [1, 2', {"content-type": "application/json"}))


@at("/drip")
async def _drip(_zoo: Zoo, _asked: Asked, out: asyncio.StreamWriter) -> bool:
    """A byte now and then, for ever."""
    out.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not out.is_closing():
        out.write(b".")
        await out.drain()
        await asyncio.sleep(0.05)
    return True


@at("/reset")
async def _reset(_zoo: Zoo, _asked: Asked, out: asyncio.StreamWriter) -> bool:
    """A reset in the middle of the body."""
    out.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf")
    await out.drain()
    out.transport.abort()
    return True


@at("/hang-up")
async def _hang_up(_zoo: Zoo, _asked: Asked, _out: asyncio.StreamWriter) -> bool:
    """No answer at all."""
    return True


@at("/once-stale")
async def _once_stale(zoo: Zoo, _asked: Asked, out: asyncio.StreamWriter) -> bool | None:
    """Closes the first connection that asks, as one does that was idle for too long."""
    if zoo.count("stale") == 1:
        return True
    reply(out, {"fine": True})
    return None


@at("/endless")
async def _endless(_zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> bool:
    """10 GB, with or without saying so."""
    length = "content-length: 10000000000\r\n" if "said" in asked.query else ""
    out.write(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode())
    for _ in range(100_000):
        out.write(b"x" * 100_000)
        await out.drain()
    return True


@at("/bomb")
async def _bomb(_zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    coding = asked.query["coding"]
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    packed = b"".join(packer.compress(bytes(1_000_000)) for _ in range(BOMB // 1_000_000))
    out.write(raw(200, packed + packer.flush(), {"content-encoding": coding}))


@at("/packed")
async def _packed(_zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    """JSON, packed in one of several ways."""
    coding = asked.query["coding"]
    text = json.dumps({"packed": coding}).encode()
    bare = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = {
        "gzip": gzip.compress(text),
        "two": gzip.compress(text[:5]) + gzip.compress(text[5:]),
        "deflate": zlib.compress(text),
        "bare": bare.compress(text) + bare.flush(),
        "cut": gzip.compress(text)[:-9],
        "wrong": b"\x1f\x8b-no-gzip",
        "br": b"whatever",
    }[coding]
    named = {"two": "gzip", "cut": "gzip", "wrong": "gzip", "bare": "deflate"}.get(coding, coding)
    kind = {"content-type": "application/json", "content-encoding": named}
    out.write(raw(200, packed, kind))


@at("/redirect")
async def _redirect(_zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    """/redirect?to=URL&status=302."""
    status = int(asked.query.get("status", 302))
    out.write(raw(status, b"", {"location": asked.query["to"]}))


@at("/round")
async def _round(_zoo: Zoo, _asked: Asked, out: asyncio.StreamWriter) -> None:
    """Leads back to itself."""
    out.write(raw(302, b"", {"location": "/round"}))


@at("/cookie")
async def _cookie(_zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    reply(out, {"had": asked.headers.get("cookie", "")}, headers={"set-cookie": "zoo=1; Path=/"})


# --- effects ----------------------------------------------------------------------------------


@at("/commit")
async def _commit(zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> bool | None:
    """Does it, and then answers, or drops the connection in one of several ways."""
    zoo.committed.append(asked.query["name"])
    match asked.query.get("then", "answer"):
        case "answer":
            reply(out, {"done": asked.query["name"]}, 201)
            return None
        case "half":
            out.write(b"HTTP/1.1 201 Created\r\ncontent-length: 1000\r\n\r\n{")
        case "see-other":
            out.write(raw(303, b"", {"location": "/status/503"}))
            return None
        case "gateway":
            reply(out, {}, 502)
            return None
        case "silence":
            await asyncio.sleep(30)
        case _:
            out.transport.abort()
    return True


@at("/jobs")
async def _start_job(_zoo: Zoo, _asked: Asked, out: asyncio.StreamWriter) -> None:
    """Takes a job that lasts: 202, and where to look."""
    reply(out, {"state": "queued"}, 202, {"location": "/jobs/7?of=3"})


@at("/jobs/")
async def _job(zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    """/jobs/7?of=3: done at the third look; 202 before; with `fails`, it fails then."""
    looks = zoo.count("job")
    if looks < int(asked.query["of"]):
        wait = {"retry-after": asked.query["wait"]} if "wait" in asked.query else {}
        reply(out, {"state": "running", "looks": looks}, 202, wait)
    else:
        reply(out, {"state": "failed" if "fails" in asked.query else "done", "looks": looks})


# --- lists ------------------------------------------------------------------------------------


@at("/pages/")
async def _pages(zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    """/pages/link, next, cursor, page, offset, and some that go wrong."""
    way, query = asked.path.rpartition("/")[2], asked.query
    size = int(query.get("limit", 5))
    if way == "flaky" and zoo.count("flaky") == 2:
        reply(out, {}, 503, {"retry-after": "0"})
        return
    if way in {"page", "flaky"}:
        start = (int(query.get("page", 1)) - 1) * size
    else:
        start = int(query.get({"offset": "offset", "cursor": "after"}.get(way, "start"), 0))
    if way == "stuck":
        start = 0
    page, after = ITEMS[start : start + size], start + size
    more = after < len(ITEMS)
    headers: dict[str, str] = {}
    body: dict[str, Any] = {"data": {"items": page}, "next": None, "cursor": None}
    if more or way == "loop":
        after = 0 if way == "loop" else after
        body |= {"cursor": str(after), "next": f"/pages/{way}?start={after}"}
        if way in {"link", "loop"}:
            headers["link"] = (
                f'</pages/{way}?start=0>; rel="first", </pages/{way}?start={after}>; rel=next'
            )
        if way == "away":
            headers["link"] = '<http://192.0.2.1/x>; rel="next"'
    reply(out, page if way == "link" else body, headers=headers)


# --- files ------------------------------------------------------------------------------------


@at("/file")
async def _file(zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> bool | None:
    """A file with an ETag and ranges; ``cut`` breaks off after so many bytes, so many times.

    With ``then-down`` there is no answer any more after that.
    """
    if zoo.counts.get("down"):
        return True
    data = FILE if zoo.counts.get("changed", 0) == 0 else FILE[::-1]
    etag = ETAG if data is FILE else '"v2"'
    headers = {"content-type": "application/x-zoo", "etag": etag, "accept-ranges": "bytes"}
    start = 0
    asked_range = asked.headers.get("range")
    is_same = asked.headers.get("if-range", etag) == etag
    if asked_range and is_same and "no-ranges" not in asked.query:
        start = int(asked_range.removeprefix("bytes=").rstrip("-"))
        headers["content-range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    part = data[start:]
    whole = raw(206 if "content-range" in headers else 200, part, headers)
    cut, times = int(asked.query.get("cut", 0)), int(asked.query.get("times", 1))
    if cut and zoo.count("cut") <= times:
        out.write(whole[: len(whole) - len(part) + cut])
        await out.drain()
        zoo.counts["down"] = int("then-down" in asked.query)
        return True
    out.write(whole)
    return None


@at("/upload")
async def _upload(_zoo: Zoo, asked: Asked, out: asyncio.StreamWriter) -> None:
    found = {"sha256": hashlib.sha256(asked.body).hexdigest(), "bytes": len(asked.body)}
    shown = {name: asked.headers.get(name) for name in ("content-type", "content-length")}
    text = asked.body[:600].decode("utf-8", "replace")
    reply(out, {**found, **shown, "method": asked.method, "text": text}, 201)
