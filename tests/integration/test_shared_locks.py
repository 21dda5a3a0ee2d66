"""Locks across machines: named locks of a real database server behind the tickets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextvars import Context
from pathlib import Path

import pymysql
import pytest

from scripts import mariadb
from smartops.audit import lock_places, schema, shared_locks
from smartops.audit.store import Store
from smartops.errors import BadInput, LockLost, LockTimeout
from smartops.locks import Actor, acting, exclusive
from smartops.settings import get_settings
from tests.conftest import needs, wait_for

pytestmark = pytest.mark.mysql

# A process with a home of its own shares no tickets with others, as on another machine.
PROGRAM = """
import asyncio, json, sys
from datetime import timedelta
from smartops.audit import shared_locks
from smartops.errors import LockLost
from smartops.locks import exclusive, held_here, inherited
if "patient" in sys.argv:
    shared_locks._SILENCE_S = 25
async def use():
    try:
        async with inherited(json.loads(sys.argv[1])), exclusive("wire", None):
            told = " " + json.dumps(dict(held_here())) if "tell" in sys.argv else ""
            print("held" + told, flush=True)
            await asyncio.to_thread(sys.stdin.readline)
        print("given back", flush=True)
    except LockLost as error:
        print("lost", flush=True)
asyncio.run(use())
"""


class Machine:
    """Another machine, which wants the wire."""

    def __init__(self, url: str, home: Path, *arguments: str) -> None:
        env = {**os.environ, "SMARTOPS_HOME": str(home), "SMARTOPS_LOCKS": "database"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *(arguments or ["{}"])],
            env={**env, "SMARTOPS_DATABASE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@pytest.fixture
def shared(mysql_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A database that this process and others share for their locks."""
    monkeypatch.setenv("SMARTOPS_DATABASE_URL", mysql_url)
    monkeypatch.setenv("SMARTOPS_LOCKS", "database")
    get_settings.cache_clear()
    store = Store(mysql_url)
    schema.migrate(store)
    yield store
    store.close()


Start = Callable[..., Machine]


@pytest.fixture
def machine(shared: Store, tmp_path: Path) -> Iterator[Start]:
    """Start another machine."""
    started: list[Machine] = []

    def start(*arguments: str) -> Machine:
        url = shared.url.render_as_string(hide_password=False)
        started.append(Machine(url, tmp_path / f"machine-{len(started)}", *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def waiting(store: Store) -> int:
    return max((len(queue) - 1 for queue in lock_places.queues(store)), default=0)


async def test_machines_take_turns_in_order(shared: Store, machine: Start) -> None:
    """Each gets it when the one before gives it back, in the order of asking; all can be seen."""
    acting.set(Actor("0123456789", "fill", "pump"))
    others = []
    async with exclusive("wire"):
        for number in range(4):
            others.append(machine())
            wait_for(lambda n=number: waiting(shared) == n + 1, "the next one waits")  # type: ignore[misc]
        (queue,) = lock_places.queues(shared)
        assert queue[0].actor == Actor("0123456789", "fill", "pump")
        assert [ticket.pid for ticket in queue[1:]] == [one.process.pid for one in others]
    for one in others:
        assert await asyncio.to_thread(one.says) == "held"
        (queue,) = lock_places.queues(shared)
        assert queue[0].pid == one.process.pid
        one.go_on()
        assert await asyncio.to_thread(one.says) == "given back"
    assert list(lock_places.queues(shared)) == []


async def test_what_a_killed_machine_held_is_free_within_seconds(
    shared: Store, machine: Start
) -> None:
    """Kill -9: its connection ends, and the next one waits only for it to come back."""
    dead, next_one = machine(), None
    assert dead.says() == "held"
    with pytest.raises(LockTimeout, match="another machine holds it"):
        await asyncio.create_task(take("wire", 0.3), context=Context())
    next_one = machine()
    wait_for(lambda: waiting(shared) == 1, "it waits")
    dead.process.kill()
    async with asyncio.timeout(15):
        assert await asyncio.to_thread(next_one.says) == "held"


async def take(resource: str, limit_s: float) -> None:
    async with shared_locks.hold(resource, "own", limit_s):
        pass


async def test_who_is_silent_has_lost_it(shared: Store, machine: Start) -> None:
    """A machine that stands still loses its lock, and is stopped when it goes on."""
    frozen, next_one = machine(), None
    assert frozen.says() == "held"
    frozen.process.send_signal(signal.SIGSTOP)
    next_one = machine()
    async with asyncio.timeout(30):
        assert await asyncio.to_thread(next_one.says) == "held"
    frozen.process.send_signal(signal.SIGCONT)
    frozen.go_on()
    assert frozen.says() in {"lost", "given back"}  # it was about to end when it noticed
    assert next(lock_places.queues(shared))[0].pid == next_one.process.pid


async def test_what_is_under_way_is_stopped_when_the_lock_is_lost(
    shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code inside ends with LockLost, and not with a cancellation of the program."""
    monkeypatch.setattr(shared_locks, "_RETURN_S", 0.0)
    thieves = []

    async def work() -> None:
        async with exclusive("wire"):
            thieves.append(asyncio.create_task(steal(shared), context=Context()))
            await asyncio.sleep(30)

    with pytest.raises(LockLost, match="wire may have gone to another"):
        await work()
    await thieves[0]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def steal(store: Store) -> None:
    """Break the holder's connection and take the lock, as an administrator could."""
    import sqlalchemy as sa

    (queue,) = lock_places.queues(store)
    assert queue
    with store.engine.connect() as connection:
        query = sa.text("SELECT connection FROM lock_place WHERE held")
        holder = connection.execute(query).scalar_one()
        claim = asyncio.create_task(take("wire", 20))
        while waiting(store) == 0:
            await asyncio.sleep(0.01)
        connection.exec_driver_sql(f"KILL {holder}")
    await claim


async def test_a_restart_of_the_server_takes_nothing_away(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds it comes back first; who waits goes on waiting, and gets it afterwards."""
    needs(mariadb.binary() is not None, "MariaDB's server (apt-get install mariadb-server-core)")
    with mariadb.running(tmp_path) as server:
        url = f"{server.url}/locks"
        connection = pymysql.connect(host="127.0.0.1", port=server.port, user="root")
        connection.query("CREATE DATABASE locks")
        connection.close()
        monkeypatch.setenv("SMARTOPS_DATABASE_URL", url)
        monkeypatch.setenv("SMARTOPS_LOCKS", "database")
        get_settings.cache_clear()
        store = Store(url)
        schema.migrate(store)
        # On a loaded machine the server's start takes longer than a holder may be silent.
        holder = Machine(url, tmp_path / "holder", "{}", "patient")
        assert holder.says() == "held"
        other = Machine(url, tmp_path / "other")
        wait_for(lambda: waiting(store) == 1, "it waits")
        server.stop(hard=True)
        server.start()
        wait_for(lambda: waiting(store) == 1, "both are back")
        # Longer than the other leaves the holder to return.
        await asyncio.sleep(shared_locks._RETURN_S + 1)
        (queue,) = lock_places.queues(store)
        assert queue[0].pid == holder.process.pid
        holder.go_on()
        assert holder.says() == "given back"
        assert other.says() == "held"
        other.go_on()
        assert other.says() == "given back"
        for one in (holder, other):
            one.process.communicate()
        store.close()


async def test_a_child_on_another_machine_keeps_the_hold_of_a_parent_that_dies(
    shared: Store, machine: Start
) -> None:
    """It is within its parent's hold; who comes next waits for the child as well."""
    parent = machine("{}", "tell")
    word, _, handed_on = parent.says().partition(" ")
    assert (word, list(json.loads(handed_on))) == ("held", ["wire"])
    child = machine(handed_on)
    assert child.says() == "held", "it would wait for its own parent for ever"
    next_one = machine()
    wait_for(lambda: waiting(shared) == 1, "the next one waits")
    parent.process.kill()
    parent.process.wait()
    # Longer than a dead holder is waited for.
    await asyncio.sleep(shared_locks._RETURN_S + shared_locks._SILENCE_S + 2)
    (queue, _) = lock_places.queues(shared)
    assert [ticket.pid for ticket in queue] == [child.process.pid, next_one.process.pid]
    child.go_on()
    assert child.says() == "given back"
    assert await asyncio.to_thread(next_one.says) == "held"
    late = machine(handed_on)
    wait_for(lambda: waiting(shared) == 1, "what has ended lets nobody in")
    next_one.go_on()
    assert next_one.says() == "given back"
    assert await asyncio.to_thread(late.says) == "held"


async def test_an_embedded_store_shares_no_locks(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that cannot be kept is refused at the first lock."""
    monkeypatch.setenv("SMARTOPS_LOCKS", "database")
    get_settings.cache_clear()
    with pytest.raises(BadInput, match="needs a database server"):
        async with exclusive("wire"):
            pass


async def test_a_database_that_is_away_is_named(
    shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step waits no longer than its limit, and says for what."""
    monkeypatch.setenv("SMARTOPS_DATABASE_URL", "mysql+pymysql://root@127.0.0.1:1/none")
    get_settings.cache_clear()
    with pytest.raises(LockTimeout, match="the database does not answer"):
        await take("wire", 2)
