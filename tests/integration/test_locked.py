"""A request to Prefect's server is answered again when another transaction came in between."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prefect.server.utilities.server import PrefectAPIRoute, PrefectRouter
from sqlalchemy.exc import OperationalError

from services import locked


class Server:
    """A route that writes what it is sent to a table, behind transactions of others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tries = 0
        self.in_the_way = 0
        """How many tries another transaction spoils."""
        with self.connected() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("CREATE TABLE t (x NOT NULL)")

    def connected(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=5, isolation_level=None)

    def write(self, value: Any) -> None:
        """Read, then write, as Prefect does in one transaction."""
        self.tries += 1
        connection = self.connected()
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM t").fetchall()
            if self.tries <= self.in_the_way:
                with self.connected() as other:
                    other.execute("INSERT INTO t VALUES ('another')")
            connection.execute("INSERT INTO t VALUES (?)", (value,))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise OperationalError("INSERT", {}, error) from error
        finally:
            connection.close()

    def values(self) -> list[str]:
        with self.connected() as connection:
            return [value for (value,) in connection.execute("SELECT x FROM t ORDER BY rowid")]

    async def post(self, value: Any) -> int:
        router = PrefectRouter()

        @router.post("/values")
        async def create(body: dict[str, Any]) -> dict[str, Any]:
            self.write(body["value"])
            return body

        app = FastAPI()
        app.include_router(router)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            answer = await client.post("/values", json={"value": value})
        assert answer.is_server_error or answer.json() == {"value": value}
        return answer.status_code


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(PrefectAPIRoute, "get_route_handler", PrefectAPIRoute.get_route_handler)
    return Server(tmp_path / "prefect.db")


async def test_what_another_came_between_is_answered_again(server: Server) -> None:
    locked.answer_again()
    server.in_the_way = 3
    assert await server.post("mine") == 200
    assert server.tries == 4
    assert server.values() == ["another"] * 3 + ["mine"]


async def test_it_gives_up_in_the_end(server: Server) -> None:
    locked.answer_again()
    server.in_the_way = 100
    assert await server.post("mine") == 500
    assert server.tries == 6


async def test_another_error_is_told_at_once(server: Server) -> None:
    locked.answer_again()
    assert await server.post(None) == 500
    assert server.tries == 1


async def test_as_prefect_comes_it_fails_at_once(server: Server) -> None:
    server.in_the_way = 1
    assert await server.post("mine") == 500
    assert server.values() == ["another"]


async def test_what_has_waited_is_not_tried_again(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked.answer_again()
    monkeypatch.setattr(locked, "_AT_ONCE_S", -1.0)
    server.in_the_way = 1
    assert await server.post("mine") == 500
    assert server.tries == 1
