"""A request to Prefect's server is answered again when another transaction came in between."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.utilities.server import PrefectAPIRoute, PrefectRouter
from sqlalchemy import text
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


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in (
        (PrefectAPIRoute, "get_route_handler"),
        (AioSqliteConfiguration, "begin_transaction"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))


@pytest.fixture
def server(tmp_path: Path) -> Server:
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


@pytest.fixture
def database(tmp_path: Path) -> AioSqliteConfiguration:
    """Prefect's own way to a database."""
    locked.answer_again()
    return AioSqliteConfiguration(f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")


class Ask:
    """A request that is answered by a function, again where :mod:`services.locked` says so."""

    def __init__(self, answer: Callable[[int], Awaitable[None]]) -> None:
        self.tries = 0
        self._answer = answer

    async def post(self) -> int:
        router = PrefectRouter()

        @router.post("/values")
        async def create() -> None:
            self.tries += 1
            await self._answer(self.tries)

        app = FastAPI()
        app.include_router(router)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return (await client.post("/values")).status_code


async def test_the_next_try_lets_no_other_in_between(database: AioSqliteConfiguration) -> None:
    """However busy the others are: they come before the first try, and wait for the second."""
    engine = await database.engine()
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (x)"))
    path = str(engine.url.database)
    refused: list[str] = []

    async def answer(_tries: int) -> None:
        async with (
            await database.session(engine) as session,
            database.begin_transaction(session),
        ):
            await session.execute(text("SELECT count(*) FROM t"))
            with sqlite3.connect(path, timeout=0, isolation_level=None) as other:
                try:
                    other.execute("INSERT INTO t VALUES ('another')")
                except sqlite3.OperationalError as error:
                    refused.append(str(error))
            other.close()
            await session.execute(text("INSERT INTO t VALUES ('mine')"))

    ask = Ask(answer)
    assert await ask.post() == 200
    assert (ask.tries, refused) == (2, ["database is locked"])
    async with engine.begin() as connection:
        rows = (await connection.execute(text("SELECT x FROM t ORDER BY rowid"))).all()
    assert [value for (value,) in rows] == ["another", "mine"]
    await engine.dispose()


async def test_a_request_of_two_transactions_does_not_wait_for_itself(
    database: AioSqliteConfiguration,
) -> None:
    """Where one begins within another, the next tries are made as Prefect makes them."""
    engine = await database.engine()
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (x)"))

    async def answer(tries: int) -> None:
        async with (
            await database.session(engine) as outer,
            await database.session(engine) as inner,
            database.begin_transaction(outer),
        ):
            await outer.execute(text("SELECT count(*) FROM t"))
            async with database.begin_transaction(inner):
                await inner.execute(text("INSERT INTO t VALUES ('inner')"))
            if tries < 3:  # it writes after the other: that fails at once
                await outer.execute(text("INSERT INTO t VALUES ('outer')"))

    ask = Ask(answer)
    assert await ask.post() == 200
    assert ask.tries == 3
    await engine.dispose()
