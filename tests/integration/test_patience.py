"""A run's process waits for Prefect's server; what that answers counts at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import uuid4

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.client.orchestration.base import BaseAsyncClient, BaseClient
from prefect.exceptions import ObjectNotFound
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_CLIENT_MAX_RETRIES,
    PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED,
    temporary_settings,
)

from services import patience
from tests.conftest import free_port


class Server:
    """A server that gives one answer after the other, the last of them from then on."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answers = [200]
        self.asked = threading.Event()

    def answer(self) -> int:
        self.asked.set()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    @contextmanager
    def there(self) -> Iterator[None]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(outer.answer())
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with HTTPServer(("127.0.0.1", self.port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(BaseClient, "request", BaseClient.request)
    monkeypatch.setattr(BaseAsyncClient, "request", BaseAsyncClient.request)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.05)
    settings = {
        PREFECT_API_URL: f"http://127.0.0.1:{made.port}/api",
        PREFECT_CLIENT_MAX_RETRIES: 0,
        PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED: False,
    }
    with temporary_settings(settings):
        yield made


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "services.patience"]


async def test_as_prefect_comes_it_gives_up(server: Server) -> None:
    async with get_client() as client:
        with pytest.raises(httpx.ConnectError):
            await client.request("GET", "/health")


async def test_it_waits_until_the_server_is_there(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Not there at all, then there and not ready, then an answer; it is told once."""
    patience.wait_for_prefect()
    server.answers = [503, 502, 200]
    async with get_client() as client:
        waiting = asyncio.create_task(client.request("GET", "/health"))
        async with asyncio.timeout(60):
            while not told(caplog):
                await asyncio.sleep(0.05)
        assert not waiting.done()
        with server.there():
            assert (await asyncio.wait_for(waiting, 60)).status_code == 200
    assert told(caplog) == ["Prefect's server is away (ConnectError): waiting for it"]


def test_so_does_a_flow_that_is_not_async(server: Server) -> None:
    patience.wait_for_prefect()
    server.answers = [503, 200]
    with get_client(sync_client=True) as client, server.there():
        assert client.request("GET", "/health").status_code == 200


async def test_an_answer_is_not_waited_for(server: Server) -> None:
    patience.wait_for_prefect()
    server.answers = [404]
    with server.there():
        async with get_client() as client:
            with pytest.raises(ObjectNotFound):
                await client.read_flow_run(uuid4())


async def test_a_wait_can_be_broken_off(server: Server) -> None:
    patience.wait_for_prefect()
    async with get_client() as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.request("GET", "/health")
