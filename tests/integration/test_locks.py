"""One thing at a time, across tasks and processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from smartops.errors import LockTimeout
from smartops.locks import exclusive, lock_path
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

    await asyncio.gather(*(use() for _ in range(20)))


async def test_waiting_has_a_limit(home: Path) -> None:
    """A transient error that names the resource; the lock works again afterwards."""
    async with exclusive("wire"):
        with pytest.raises(LockTimeout, match="wire was held"):
            async with exclusive("wire", timedelta(seconds=0.1)):
                pass
    async with exclusive("wire", timedelta(seconds=0.1)):
        pass


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
