"""A browser's life: warm for a run, fresh for a step, and gone, however whoever has it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from blocks import BrowserProfile
from smartops import audited, errors, evidence_store
from smartops.audit.journal_reader import JournalReader, journal_files
from smartops.drivers import browser, browser_warm
from smartops.plant import Plant
from smartops.settings import get_settings
from tasks.browser import browser_page
from tests.conftest import wait_for

pytestmark = pytest.mark.browser
_chance = random.Random(1)
PROGRAM = """
import asyncio, sys
from pathlib import Path
from smartops.drivers import browser, browser_warm

async def main():
    connection = browser.Connection("zoo", sys.argv[1])
    keeping = browser.Keeping(frozenset({"trace", "har"}))
    async with browser_warm.kept_warm():
        async with browser.open_session(connection, keeping, Path(sys.argv[2])) as session:
            await session.page.goto("/zoo/")
            print("open", flush=True)
            await session.page.goto("/zoo/slow?seconds=60")

asyncio.run(main())
"""


def browsers(owner: int) -> list[psutil.Process]:
    """Return the browsers that a process has started, whether it lives or not."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(a.startswith(f"--smartops-browser={owner}-") for a in process.cmdline()):
                found.append(process)
    return found


def gone(owner: int) -> None:
    """Wait until the browsers of a process are gone."""
    wait_for(lambda: not browsers(owner), "the browser's end")


SHARED: set[int] = set()


@pytest.fixture(autouse=True)
def _what_others_started() -> Iterator[None]:
    """Note what lives below this process before a test: servers that other tests share."""
    SHARED.update(child.pid for child in psutil.Process().children())
    yield
    SHARED.clear()


def own_tree() -> list[psutil.Process]:
    """Return what lives below this process, and was not there before the test."""
    found = []
    for own in psutil.Process().children():
        for child in () if own.pid in SHARED else (own, *own.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
    return found


def zoo(plant: Plant, **fields: Any) -> browser.Connection:
    given = {"timeout": timedelta(seconds=20), **fields}
    return browser.Connection("zoo", plant.addresses.hmi_url, **given)


async def visited(connection: browser.Connection) -> list[int]:
    """Visit a page; return which browsers there were meanwhile, and how many cookies at first."""
    async with browser.open_page(connection) as page:
        cookies = len(await page.context.cookies())
        await page.goto("/zoo/")
        await page.evaluate("document.cookie = 'a=b'")
        return [*(p.pid for p in browsers(os.getpid())), cookies]


async def test_one_browser_for_a_run(plant: Plant, chromium: Path) -> None:
    """Warm for all steps of a run, one after the other and at once; fresh contexts; then gone."""
    shared = zoo(plant, shared=True)
    async with browser_warm.kept_warm():
        first = await visited(shared)
        async with browser_warm.kept_warm():
            again = [*await asyncio.gather(visited(shared), visited(shared))]
        assert browsers(os.getpid()), "an inner part of the run does not end it"
    assert again == [first, first]
    assert len(first) == 2
    assert first[1] == 0, "no cookie of the step before"
    assert browsers(os.getpid()) == []
    assert await visited(shared) != first
    assert browsers(os.getpid()) == []


async def test_a_dead_browser_is_replaced(plant: Plant, chromium: Path) -> None:
    """Its step fails as transient, and the next one has a new browser."""
    async with browser_warm.kept_warm():
        with pytest.raises(errors.BrowserCrashed):
            async with browser.open_page(zoo(plant)) as page:
                await _dies_under(page)
        assert len(await visited(zoo(plant))) == 2


async def _dies_under(page: browser.Page) -> None:
    from smartops.drivers.browser_actions import Actor
    from smartops.drivers.browser_evidence import NOTHING, Recorder
    from smartops.page_actions import Goto

    for process in browsers(os.getpid()):
        process.kill()
    connection = browser.Connection("zoo", "http://127.0.0.1:1")
    recorder = Recorder(page.context, NOTHING, Path(), Path())
    session = browser.Session(connection, page.context, page, recorder)
    await Actor(session).perform([Goto(path="/zoo/")])


async def test_a_dead_driver_leaves_no_browser(plant: Plant, chromium: Path) -> None:
    """Playwright's own process is killed: what it had started ends as well."""
    async with browser.open_page(zoo(plant)) as page:
        drivers = [process.parent() for process in browsers(os.getpid())]
        assert drivers
        for driver in drivers:
            assert driver is not None
            driver.kill()
        with pytest.raises(Exception, match="closed"):
            await page.goto("/zoo/")
    assert own_tree() == []


async def test_cancelled_at_any_moment(plant: Plant, chromium: Path) -> None:
    """While it starts, while it works, while it ends: nothing is left."""
    for _ in range(6):
        visiting = asyncio.create_task(visited(zoo(plant)))
        await asyncio.wait([visiting], timeout=_chance.uniform(0.0, 2.5))
        visiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await visiting
        assert own_tree() == []
    assert list((get_settings().home / "browser-work").iterdir()) == []


async def test_a_killed_process_leaves_no_browser(plant: Plant, chromium: Path) -> None:
    """Kill -9 in the middle of a page; what it has left on disk is cleared away by the next."""
    home = get_settings().home
    arguments = [sys.executable, "-c", PROGRAM, plant.addresses.hmi_url, str(home / "kept")]
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert await process.stdout.readline() == b"open\n"
        assert browsers(process.pid)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        await asyncio.to_thread(gone, process.pid)
    assert list((home / "browser-work").glob("*/*.trace")), "no trace is made elsewhere"
    await visited(zoo(plant))
    assert list((home / "browser-work").iterdir()) == []


async def test_a_browser_may_not_take_all_memory(
    plant: Plant, chromium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes more than it may is ended, and the error says how much it was."""
    monkeypatch.setenv("SMARTOPS_BROWSER_MEMORY", "10MB")
    get_settings.cache_clear()
    with pytest.raises(errors.BrowserCrashed, match="MB of memory and was ended") as error:
        async with browser.open_page(zoo(plant)) as page:
            await page.goto("/zoo/slow?seconds=60", timeout=60_000)
    assert "SMARTOPS_BROWSER_MEMORY" in error.value.one_line
    assert own_tree() == []


async def test_a_browser_that_dies_and_nothing_tells(plant: Plant, chromium: Path) -> None:
    """Its driver may not notice, or not say: a step must not wait for that for ever."""
    with pytest.raises(errors.BrowserCrashed, match="has died"):
        await go_with_a_driver_that_stands_still(plant)
    assert own_tree() == []


async def go_with_a_driver_that_stands_still(plant: Plant) -> None:
    """Ask something of a browser that is killed, through a driver that does not answer."""
    async with browser.open_page(zoo(plant)) as page:
        (driver,) = (p for p in psutil.Process().children() if "node" in p.name())
        below = driver.children(recursive=True)
        driver.suspend()
        try:
            for process in below:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            await page.goto("/zoo/forms", timeout=300_000)
        finally:
            driver.resume()


async def test_nothing_is_shared_over_a_fork_or_a_loop(chromium: Path) -> None:
    """A forked child, and another event loop, have no use of what is warm here."""
    async with browser_warm.kept_warm():
        pool = browser_warm.current()
        assert pool is not None
        assert pool.is_ours()
        child = os.fork()
        if child == 0:
            os._exit(7 if pool.is_ours() else 8)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 8
        others: list[bool] = []

        async def look() -> None:
            others.append(pool.is_ours())

        thread = threading.Thread(target=lambda: asyncio.run(look()))
        thread.start()
        thread.join()
        assert others == [False]


def steps_on_record() -> list[dict[str, Any]]:
    """Return the journalled events of steps and artifacts."""
    found = []
    for path in journal_files(get_settings().journal_dir):
        reader = JournalReader(path)
        found += [{"type": r.type, **json.loads(r.body)} for r in reader.after(0, 100)]
        reader.close()
    wanted = {"step.started", "step.ended", "artifact"}
    return [event for event in found if event["type"] in wanted]


@pytest.fixture
def saved(plant: Plant, chromium: Path) -> BrowserProfile:
    """A profile of the zoo."""
    fields = {"base_url": plant.addresses.hmi_url, "timeout": "20s"}
    return BrowserProfile.model_validate(fields)


async def test_a_page_in_python(saved: BrowserProfile) -> None:
    """The real page, on record as a step; what fails leaves its evidence."""

    @audited
    async def look() -> str:
        async with browser_page(saved, keep_evidence="always", evidence=["screenshot"]) as page:
            await page.goto("/zoo/")
            return await page.get_by_role("heading").inner_text()

    @audited
    async def look_in_vain() -> None:
        async with browser_page(saved) as page:
            await page.goto("/zoo/")
            await page.get_by_text("never").click(timeout=200)

    assert await look() == "Page zoo"
    started, kept, ended = steps_on_record()
    assert (started["kind"], started["step"]) == ("browser.page", "browser_page")
    assert (kept["name"], kept["media_type"]) == ("end.png", "image/png")
    assert len(kept["sha256"]) == 64
    assert len(evidence_store.read(kept["place"])) == kept["bytes"]
    assert ended["state"] == "completed"
    with pytest.raises(Exception, match="Timeout 200ms"):
        await look_in_vain()
    names = [event["name"] for event in steps_on_record() if event["type"] == "artifact"]
    assert names == ["end.png", "failure.png", "trace.zip", "network.har", "console.txt"]
    with pytest.raises(RuntimeError, match="is used in a run"):
        async with browser_page(saved):
            raise AssertionError("outside of a run")
