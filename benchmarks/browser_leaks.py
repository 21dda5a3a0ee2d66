"""What 500 uses of a browser leave behind, with each way in which a use can end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil

from smartops.drivers import browser, browser_warm
from smartops.plant import Plant
from smartops.settings import get_settings

RUNS = int(os.environ.get("BROWSER_RUNS", "500"))
_GONE_S, _LOOK_S = 30.0, 0.05
_chance = random.Random(1)
_PROGRAM = """
import asyncio, sys
from pathlib import Path
from smartops.drivers import browser

async def main():
    connection = browser.Connection("zoo", sys.argv[1])
    keeping = browser.Keeping(frozenset({"trace", "har"}))
    async with browser.open_session(connection, keeping, Path(sys.argv[2])) as session:
        print("open", flush=True)
        await session.page.goto("/zoo/slow?seconds=60")

asyncio.run(main())
"""


def run(home: str) -> dict[str, Any]:
    """Use browsers in runs that end well, time out, are cancelled, crash, or are killed."""
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    return asyncio.run(_measure(Path(home)))


async def _measure(home: Path) -> dict[str, Any]:
    left: dict[str, int] = {}
    async with Plant(seed=1, opcua=False) as plant:
        connection = browser.Connection("zoo", plant.addresses.hmi_url)
        ways: dict[str, Callable[[], Awaitable[list[str]]]] = {
            "well": lambda: _in_this_process(_visit(connection)),
            "timeout": lambda: _in_this_process(_broken_off(connection, 2.0)),
            "cancelled": lambda: _in_this_process(_broken_off(connection, _chance.uniform(0, 2))),
            "crash": lambda: _in_this_process(_crashed(connection)),
            "kill -9": lambda: _killed(connection.base_url, home),
        }
        begun = time.perf_counter()
        for number in range(RUNS):
            name = list(ways)[number % len(ways)]
            left[name] = left.get(name, 0) + len(await ways[name]())
    folders = list((home / "browser-work").iterdir())
    await _sweep(connection)
    return {
        **{f"left after {name}": count for name, count in left.items()},
        "processes_left": sum(left.values()),
        "folders_left": len(list((home / "browser-work").iterdir())),
        "folders_before_the_next_use": len(folders),
        "n": RUNS,
        "took_s": time.perf_counter() - begun,
        "samples": [],
    }


async def _sweep(connection: browser.Connection) -> None:
    """Begin one more use, that clears away what killed ones have left."""
    with contextlib.suppress(Exception):
        await _visit(connection)


async def _visit(connection: browser.Connection) -> None:
    async with browser_warm.kept_warm(), browser.open_page(connection) as page:
        await page.goto("/zoo/")


async def _broken_off(connection: browser.Connection, after_s: float) -> None:
    async with asyncio.timeout(after_s), browser.open_page(connection) as page:
        await page.goto("/zoo/slow?seconds=60", timeout=60_000)


async def _crashed(connection: browser.Connection) -> None:
    async with browser.open_page(connection) as page:
        for process in _browsers(os.getpid()):
            process.kill()
        await page.goto("/zoo/")


async def _in_this_process(use: Awaitable[None]) -> list[str]:
    with contextlib.suppress(Exception):
        await use
    return await _left(os.getpid())


async def _killed(url: str, home: Path) -> list[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PROGRAM, url, str(home / "kept"), stdout=subprocess.PIPE
    )
    if process.stdout is None:
        raise TypeError("its output is not read")
    await process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    await process.wait()
    return await _left(process.pid)


async def _left(owner: int) -> list[str]:
    """Return what is left of an owner's browsers, when they have had the time to end."""
    deadline = time.monotonic() + (_GONE_S if owner != os.getpid() else 0)
    while (found := _browsers(owner)) and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK_S)
    names = [str(process.pid) for process in found]
    for process in found:
        with contextlib.suppress(psutil.Error):
            process.kill()
    return names


def _browsers(owner: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(a.startswith(f"--smartops-browser={owner}-") for a in process.cmdline()):
                found.append(process)
    return found
