"""The REST driver against the plant's orders service, and a server that answers by the book."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from smartops import errors
from smartops.drivers import rest
from smartops.plant import Plant
from smartops.plant.web import TOKEN
from tests.conftest import free_port

ENTRY = {"line": "line-1", "text": "t", "good": 1, "scrap": 0}


def service(url: str, token: str = TOKEN, timeout_s: float = 10) -> rest.Connection:
    return rest.Connection("orders", url, token=token, timeout=timedelta(seconds=timeout_s))


@asynccontextmanager
async def answering(raw: bytes) -> AsyncIterator[str]:
    """A server that answers each request with these bytes; with none, it never answers."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if not raw:
                await reader.read()
            writer.write(raw)
            await writer.drain()
        except ConnectionError:
            pass  # the client has had enough of a long answer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def http(status: str, body: str = "{}", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(body.encode())}\r\n\r\n{body}".encode()


async def call(
    url: str, *, method: str = "GET", timeout_s: float = 10, **options: Any
) -> rest.Answer:
    async with rest.open_service(service(url, timeout_s=timeout_s)) as client:
        return await client.request(method, "/x", **options)


async def test_reads_json(plant: Plant) -> None:
    """Query and token are sent; the body is parsed."""
    async with rest.open_service(service(plant.addresses.orders_url)) as client:
        answer = await client.request("GET", "/orders", query={"line": "line-2"})
    assert answer.status == 200
    assert answer.body["items"][0]["id"] == "A-2001"


async def test_wrong_credentials(plant: Plant) -> None:
    """Permanent, and the hint names the connection."""
    async with rest.open_service(service(plant.addresses.orders_url, "wrong-token")) as client:
        with pytest.raises(errors.AuthenticationFailed) as error:
            await client.request("GET", "/orders")
    assert "'orders'" in error.value.one_line
    assert "wrong-token" not in error.value.one_line


async def test_taken_and_then_lost(plant: Plant) -> None:
    """The service commits and drops the connection: unknown for a POST, and it was sent once."""
    plant.faults.switch_on("orders-commit-then-drop")
    async with rest.open_service(service(plant.addresses.orders_url)) as client:
        with pytest.raises(errors.UnknownOutcome):
            await client.request("POST", "/shift-log", body=ENTRY, repeatable=False)
    assert len(plant.log.entries("shift-log.post")) == 1


@pytest.mark.parametrize(
    ("status", "repeatable", "error"),
    [
        ("429 Too Many Requests", False, errors.ServiceUnavailable),
        ("503 Service Unavailable", False, errors.ServiceUnavailable),
        ("502 Bad Gateway", True, errors.ServiceUnavailable),
        ("504 Gateway Timeout", False, errors.UnknownOutcome),
        ("500 Internal Server Error", True, errors.ExpectationFailed),
        ("500 Internal Server Error", False, errors.UnknownOutcome),
        ("404 Not Found", True, errors.ExpectationFailed),
        ("403 Forbidden", True, errors.AuthenticationFailed),
        ("302 Found", True, errors.ExpectationFailed),
    ],
)
async def test_what_a_status_means(status: str, repeatable: bool, error: type[Exception]) -> None:
    """Each status has its class; a redirect is not followed."""
    async with answering(http(status, '{"why": "because"}')) as url:
        with pytest.raises(error, match=status[:3]):
            await call(url, method="POST", repeatable=repeatable)


@pytest.mark.parametrize("coding", ["identity", "br"])
async def test_a_refusal_is_known_by_its_status(coding: str) -> None:
    """However large its page is, and whether it can be read or not."""
    kind = f"text/html\r\ncontent-encoding: {coding}"
    async with answering(http("503 Service Unavailable", "x" * 300_000, kind)) as url:
        with pytest.raises(errors.ServiceUnavailable, match="answered 503"):
            await call(url, max_bytes=1000)


@pytest.mark.parametrize("repeatable", [True, False])
async def test_no_answer(repeatable: bool) -> None:
    """A read timeout is transient where repeating does no harm, and unknown elsewhere."""
    wanted = errors.ServiceUnavailable if repeatable else errors.UnknownOutcome
    async with answering(b"") as url:
        with pytest.raises(wanted):
            await call(url, repeatable=repeatable, timeout_s=1)


async def test_nobody_listens() -> None:
    """Nothing was sent, so even an unsafe request may be tried again."""
    with pytest.raises(errors.ServiceUnavailable, match="no connection"):
        await call(f"http://127.0.0.1:{free_port()}", method="POST", repeatable=False)


@pytest.mark.parametrize("body", ["{", '{"a": NaN}', "[" * 100_000])
async def test_json_that_is_none(body: str) -> None:
    """What says JSON and is not is a bad answer."""
    async with answering(http("200 OK", body)) as url:
        with pytest.raises(errors.BadAnswer):
            await call(url)


async def test_odd_texts() -> None:
    """A byte-order mark is no fault; a character set that does not exist is."""
    async with answering(http("200 OK", '\ufeff{"a": 1}')) as url:
        assert (await call(url)).body == {"a": 1}
    async with answering(http("200 OK", "{}", "application/json; charset=hex")) as url:
        with pytest.raises(errors.BadAnswer):
            await call(url)


async def test_an_endless_answer() -> None:
    """The size of an answer is limited."""
    async with answering(http("200 OK", "x" * 10_000_001, "text/plain")) as url:
        with pytest.raises(errors.BadAnswer, match="larger"):
            await call(url)


@pytest.mark.parametrize("path", ["http://elsewhere/", "//elsewhere/", "/\\elsewhere"])
async def test_the_path_stays_below_the_base(plant: Plant, path: str) -> None:
    """A template cannot send the token to another host."""
    async with rest.open_service(service(plant.addresses.orders_url)) as client:
        with pytest.raises(errors.BadInput):
            await client.request("GET", path)


async def test_a_secret_in_an_answer_is_masked() -> None:
    """A service that echoes the token does not bring it into our errors."""
    from smartops import redact

    redact.register(TOKEN)
    async with answering(http("400 Bad Request", f"bad token {TOKEN}", "text/plain")) as url:
        with pytest.raises(errors.ExpectationFailed) as error:
            await call(url)
    assert TOKEN not in str(error.value)
