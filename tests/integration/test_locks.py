"""One thing at a time, across tasks and processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from smartops.errors import LockTimeout
from smartops.locks import (
    OVERTAKES,
    Actor,
    acting,
    exclusive,
    held,
    held_here,
    inherited,
    lock_path,
    queues,
    urgent,
)
from tests.conftest import wait_for

HOLDER = """
import asyncio
from smartops.locks import exclusive
async def hold():
    async with exclusive("modbus://plc:502"):
        print("held", flush=True)
        await asyncio.sleep(3600)
asyncio.run(hold())
"""


async def test_tasks_take_turns(home: Path) -> None:
    """Twenty tasks of one process: never two at once."""
    inside = 0

    async def use() -> None:
        nonlocal inside
        async with exclusive("wire"):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(elsewhere(use()) for _ in range(20)))


def elsewhere(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run something as if by another job: it holds nothing of what this test holds."""
    return asyncio.create_task(coroutine, context=Context())


async def take(resource: str, limit_s: float) -> None:
    async with exclusive(resource, timedelta(seconds=limit_s)):
        pass


async def test_waiting_has_a_limit(home: Path) -> None:
    """A transient error that names the resource and who holds it; it can be had afterwards."""
    acting.set(Actor("0123456789", "fill", "pump"))
    async with exclusive("wire"):
        with pytest.raises(
            LockTimeout, match=r"wire was held by job fill, step pump \(run 01234567"
        ):
            await elsewhere(take("wire", 0.1))
        await take("wire", 0.1)  # what the code around holds need not be waited for
    await elsewhere(take("wire", 0.1))


async def test_first_come_first_served(home: Path) -> None:
    """Ten who wait get it in the order in which they came; one that gives up lets the next by."""
    order: list[int] = []

    async def use(number: int) -> None:
        async with exclusive("wire"):
            order.append(number)

    async with exclusive("wire"):
        waiting = []
        for number in range(10):
            waiting.append(elsewhere(use(number)))
            await wait_until(lambda: len(next(queues())) == len(waiting) + 1)
        assert [ticket.pid for ticket in next(queues())] == [os.getpid()] * 11
        waiting[3].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert list(queues()) == []


async def test_a_write_goes_before_the_reads_that_wait(home: Path) -> None:
    """It waits for who has the wire, and for writes before it, and overtakes a few: not all."""
    order: list[str] = []

    async def use(name: str) -> None:
        urgent.set(name.startswith("write"))
        async with exclusive("wire"):
            order.append(name)

    reads = [f"read {number}" for number in range(OVERTAKES + 3)]
    async with exclusive("wire"):
        waiting = []
        for name in (*reads, "write 0", "write 1"):
            waiting.append(elsewhere(use(name)))
            await wait_until(lambda: len(next(queues())) == len(waiting) + 1)
        assert order == []
    await asyncio.gather(*waiting)
    assert order == [*reads[:4], "write 0", reads[4], "write 1", *reads[5:]]


async def test_who_holds_it_stands_first(home: Path) -> None:
    """Also when somebody urgent is next; and it is said to be the one who is waited for."""
    acting.set(Actor("0123456789", "fill", "pump"))
    async with exclusive("wire"):

        async def write() -> None:
            acting.set(Actor("9876543210", "stop", "valve"))
            urgent.set(True)
            await take("wire", 30)

        writing = elsewhere(write())
        await wait_until(lambda: len(next(queues())) == 2)
        assert [ticket.actor.job for ticket in next(queues())] == ["fill", "stop"]
        with pytest.raises(LockTimeout, match="wire was held by job fill"):
            await elsewhere(take("wire", 0.1))
        assert not writing.done()
    await writing


async def wait_until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def test_several_at_once_in_no_circle(home: Path) -> None:
    """Two that want the same two things in another order both get them."""

    async def use(*names: str) -> None:
        for _ in range(20):
            async with held(names):
                await asyncio.sleep(0)

    async with asyncio.timeout(20):
        await asyncio.gather(elsewhere(use("a", "b")), elsewhere(use("b", "a")))


async def test_who_shares_a_hold_takes_turns_within_it(home: Path) -> None:
    """What a job holds, its steps take one after the other, and nobody else in between."""
    order: list[str] = []
    inside = 0

    async def use(name: str) -> None:
        nonlocal inside
        async with exclusive("line-3"):
            inside += 1
            assert inside == 1
            order.append(name)
            await asyncio.sleep(0.01)
            inside -= 1

    async with exclusive("line-3"):
        stranger = elsewhere(use("stranger"))
        await wait_until(lambda: len(next(queues())) == 2)
        handed_on = dict(held_here())

        async def child() -> None:  # as a run that a step has started, in a process of its own
            async with inherited(handed_on):
                await use("child")

        await asyncio.gather(use("a"), use("b"), elsewhere(child()))
        assert "stranger" not in order
    await stranger
    assert sorted(order[:3]) == ["a", "b", "child"]
    assert len(list(lock_path("line-3").parent.iterdir())) == 1, "no folder stays behind"


MANY = """
import asyncio, sys, time
from pathlib import Path
from smartops.locks import exclusive
async def use():
    for _ in range(15):
        async with exclusive("wire"):
            inside = Path(sys.argv[1])
            assert not inside.exists()
            inside.touch()
            await asyncio.sleep(0.001)
            inside.unlink()
asyncio.run(use())
"""


def test_processes_take_turns(home: Path, tmp_path: Path) -> None:
    """Six processes, one after the other, ninety times: never two at once."""
    command = [sys.executable, "-c", MANY, str(tmp_path / "inside")]
    processes = [subprocess.Popen(command) for _ in range(6)]
    assert [process.wait(60) for process in processes] == [0] * 6


async def test_a_killed_holder_holds_nothing(home: Path) -> None:
    """Kill -9 on the holder: the next one gets it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LockTimeout):
            async with exclusive("modbus://plc:502", timedelta(seconds=0.1)):
                pass
        holder.kill()
        holder.wait()
    async with exclusive("modbus://plc:502", timedelta(seconds=1)):
        assert wait_for(lambda: lock_path("modbus://plc:502").exists(), "the lock file")


def test_resources_have_files_of_their_own(home: Path) -> None:
    """Names that look alike once they are file names do not share a lock."""
    assert lock_path("modbus://a:1") != lock_path("modbus:__a:1")
    assert "/" not in lock_path("../../etc/passwd").name


async def test_a_gate_that_a_power_cut_has_damaged(home: Path) -> None:
    """Tickets go on behind those that are there."""
    await take("wire", 1)
    (lock_path("wire") / "gate").write_bytes(b"\0\0\0")
    async with exclusive("wire"):
        with pytest.raises(LockTimeout):
            await elsewhere(take("wire", 0.1))
    await take("wire", 1)


async def test_a_forked_child_keeps_no_lock(home: Path) -> None:
    """A process that was forked meanwhile has copies of the files; what was given back is free."""
    end, told = os.pipe()
    async with exclusive("wire"):
        child = os.fork()
        if child == 0:
            os.close(told)
            os.read(end, 1)  # until the test is done
            os._exit(0)
    await elsewhere(take("wire", 1))
    os.close(told)
    os.close(end)
    await asyncio.to_thread(os.waitpid, child, 0)


CHILD = """
import asyncio, json, sys
from smartops.locks import exclusive, inherited
async def run():
    async with inherited(json.loads(sys.argv[1])):
        async with exclusive("line-3"):
            print("inside", flush=True)
            sys.stdin.read()
asyncio.run(run())
"""


@pytest.mark.parametrize("ends", ["in order", "killed"])
async def test_a_child_keeps_what_its_parent_has_held(home: Path, ends: str) -> None:
    """Whoever is next has to wait for the child too, also when the parent has gone."""
    child: asyncio.subprocess.Process | None = None
    async with exclusive("line-3"):
        handed_on = json.dumps(dict(held_here()))
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CHILD, handed_on, stdin=pipe, stdout=pipe
        )
        assert child.stdout is not None
        assert child.stdin is not None
        assert await child.stdout.readline() == b"inside\n"
    with pytest.raises(LockTimeout):
        await elsewhere(take("line-3", 0.3))
    with pytest.raises(LockTimeout):
        await elsewhere(take("line-3", 0.1))  # who has waited in vain has changed nothing
    waiting = elsewhere(take("line-3", 30))
    await asyncio.wait({waiting}, timeout=0.2)
    assert not waiting.done()
    if ends == "killed":
        child.kill()
    child.stdin.close()
    await child.wait()
    await waiting
    assert len(list(lock_path("line-3").parent.iterdir())) == 1, "no folder stays behind"


async def test_what_has_ended_is_not_inherited(home: Path) -> None:
    """A child that comes back later has to wait like everybody else, and lets nobody in."""
    async with exclusive("line-3"):
        handed_on = dict(held_here())
    async with exclusive("line-3"):

        async def late() -> None:
            async with inherited(handed_on):
                assert held_here() == {}
                await take("line-3", 0.1)

        with pytest.raises(LockTimeout):
            await elsewhere(late())
    await elsewhere(late())
