"""A browser's processes: started with a mark, watched for their memory, and gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from playwright.async_api import Browser, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError

from smartops import errors
from smartops.drivers import browser_warm
from smartops.drivers.browser_work import work_folder
from smartops.settings import get_settings

_QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
)
_CHROMIUM = (
    "Install Chromium (Debian: apt-get install chromium; elsewhere: playwright install chromium)."
)
_CLOSE_S, _LOOK_S = 10.0, 1.0
_LAST_WORDS_S = 5.0
"""How long what is asked of a browser that has died is waited for: its driver may never tell."""
_NO_DISPLAY = ("Missing X server", "$DISPLAY", "cannot open display")


def how_to_install(kind: str) -> str:
    """Return what to do where a browser is missing."""
    return _CHROMIUM if kind == "chromium" else f"Install it with `playwright install {kind}`."


@dataclass(frozen=True)
class Launch:
    """How a browser is started; what is started alike may be shared."""

    kind: str = "chromium"
    executable: Path | None = None
    headless: bool = True


class _HasDied(Exception):
    """The browser is gone, and what was asked of it was not answered."""


class RunningBrowser:
    """A browser with its driver process."""

    def __init__(
        self, playwright: Playwright, browser: Browser, mark: str, files: contextlib.ExitStack
    ) -> None:
        self._playwright = playwright
        self._files = files
        self.browser = browser
        self._processes = _marked(mark)
        self._users: set[asyncio.Timeout] = set()
        self._watching: asyncio.Task[None] | None = None
        self.took_bytes = 0
        """What it took when it was ended for taking more than it may; 0 while it takes less."""

    def lives(self) -> bool:
        """Return whether it can still be used."""
        return self.browser.is_connected() and not self._has_died()

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[Browser]:
        """Watch it for as long as somebody uses it. Raises _HasDied where nothing else tells."""
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._users.add(limit)
                if self._watching is None:
                    self._watching = asyncio.create_task(self._watch())
                try:
                    yield self.browser
                finally:
                    self._users.discard(limit)
                    if not self._users:
                        self._watching.cancel()
                        self._watching = None
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise _HasDied from error

    async def _watch(self) -> None:
        limit = get_settings().browser_memory
        while True:
            await asyncio.sleep(_LOOK_S)
            taken = await asyncio.to_thread(self._memory)
            if taken > limit:
                self.took_bytes = taken
                _kill(self._tree())
            if self._has_died():
                for user in self._users:
                    if user.when() is None:
                        user.reschedule(asyncio.get_running_loop().time() + _LAST_WORDS_S)

    def _has_died(self) -> bool:
        """Return whether its process is gone, where that is known."""
        return bool(self._processes) and not any(map(_runs, self._processes))

    def _memory(self) -> int:
        """Return the bytes that its processes have for themselves."""
        total = 0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                total += process.memory_full_info().uss
        return total

    def _tree(self) -> list[psutil.Process]:
        found = []
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                found += [process, *process.children(recursive=True)]
        return found

    async def stop(self) -> None:
        """End it; by force what does not end by itself."""
        try:
            await _at_last(_closed(self.browser.close()))
        finally:
            _kill(self._tree())
            try:
                await _at_last(_closed(self._playwright.stop()))
            finally:
                self._files.close()


async def _closed(closing: Coroutine[Any, Any, None]) -> None:
    """Wait for an end, not for ever; that it is over already is no error."""
    with contextlib.suppress(PlaywrightError, TimeoutError, ConnectionError):
        async with asyncio.timeout(_CLOSE_S):
            await closing


async def _at_last(ending: Coroutine[Any, Any, None]) -> None:
    """See it through, also when whoever waits for it is cancelled meanwhile."""
    task = asyncio.create_task(ending)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _marked(mark: str) -> list[psutil.Process]:
    """Return the processes below this one that were started with a mark."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if mark in child.cmdline():
                found.append(child)
    return found


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _kill(processes: Iterable[psutil.Process]) -> None:
    """End processes; one that has ended meanwhile is no error."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


@asynccontextmanager
async def running(launch: Launch, name: str) -> AsyncIterator[Browser]:
    """Give a running browser, a warm one where there is one.

    Raises MissingProgram, and BrowserCrashed when it does not start, dies, or takes too much
    memory.
    """
    async with browser_warm.lent(launch, lambda: _start(launch, name)) as lent:
        if not isinstance(lent, RunningBrowser):
            raise TypeError("another thing is kept warm under a browser's name")
        try:
            async with lent.in_use() as browser:
                yield browser
        except Exception as error:
            if lent.took_bytes:
                limit, took = get_settings().browser_memory, lent.took_bytes
                raise errors.BrowserCrashed(
                    f"{name}: the browser took {took / 1e6:.0f} MB of memory and was ended",
                    hint=f"It may take {limit / 1e6:.0f} MB (SMARTOPS_BROWSER_MEMORY).",
                ) from error
            if isinstance(error, _HasDied):
                raise errors.BrowserCrashed(f"{name}: the browser has died") from error
            raise


async def _start(launch: Launch, name: str) -> RunningBrowser:
    """Start a browser; a start that is broken off half-way would leave processes behind."""
    starting = asyncio.create_task(_started(launch, name))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(errors.SmartOpsError):
            await (await starting).stop()
        raise


async def _started(launch: Launch, name: str) -> RunningBrowser:
    mark = f"--smartops-browser={os.getpid()}-{uuid4().hex[:12]}"
    args = [*_QUIET, mark] if launch.kind == "chromium" else []
    if os.geteuid() == 0 and launch.kind == "chromium":
        args.append("--no-sandbox")
    playwright = await async_playwright().start()
    files = contextlib.ExitStack()
    try:
        # A trace has all secrets in it while it is made: it must not stay in a place of its own.
        traces = files.enter_context(work_folder())
        browser = await getattr(playwright, launch.kind).launch(
            executable_path=launch.executable,
            headless=launch.headless,
            args=args,
            traces_dir=traces,
        )
    except BaseException as error:
        files.close()
        await _at_last(_closed(playwright.stop()))
        _kill(_marked(mark))
        if isinstance(error, PlaywrightError):
            raise _no_start(error, launch, name) from error
        raise
    return RunningBrowser(playwright, browser, mark, files)


def _no_start(error: PlaywrightError, launch: Launch, name: str) -> errors.SmartOpsError:
    if "Executable doesn't exist" in error.message:
        return errors.MissingProgram(
            f"{name}: no {launch.kind} is installed", hint=how_to_install(launch.kind)
        )
    if any(sign in error.message for sign in _NO_DISPLAY):
        return errors.MissingProgram(
            f"{name}: the worker has no display for a browser with a window",
            hint="Set headless in the profile, or start the worker under `xvfb-run`.",
        )
    first = error.message.strip().splitlines()[0]
    return errors.BrowserCrashed(f"{name}: the browser does not start: {first}")
