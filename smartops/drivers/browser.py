"""A real browser, opened for one step and gone afterwards, whatever happens."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from playwright.async_api import Browser, Page, Playwright, Route, async_playwright
from playwright.async_api import Error as PlaywrightError

from smartops import errors, locks
from smartops.rehearsal import check_url, is_here, rehearsing
from smartops.settings import get_settings

__all__ = ["Connection", "Page", "find_executable", "open_page"]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
)
_HOW_TO_INSTALL = (
    "Install Chromium (Debian: apt-get install chromium; elsewhere: playwright install chromium)."
)


@dataclass(frozen=True)
class Connection:
    """A site and the browser to open it with."""

    name: str
    base_url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    executable: Path | None = None
    headless: bool = True
    width: int = 1280
    height: int = 800
    locale: str = "en-GB"
    timeout: timedelta = timedelta(seconds=10)
    shared: bool = False
    """Whether several steps may use it at the same time."""

    @property
    def resource(self) -> str:
        """What a step holds alone."""
        return f"browser://{self.name}"


def find_executable(wanted: Path | None = None) -> Path | None:
    """Return the browser to start; None leaves it to Playwright's own download.

    Raises MissingProgram when the one that is asked for does not exist.
    """
    chosen = wanted or get_settings().browser_executable
    if chosen is not None:
        if not chosen.is_file():
            raise errors.MissingProgram(f"there is no browser at {chosen}", hint=_HOW_TO_INSTALL)
        return chosen
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    return Path(found) if found else None


@asynccontextmanager
async def open_page(connection: Connection) -> AsyncIterator[Page]:
    """Give a fresh page of a fresh browser with no stored state, as soon as it is nobody else's.

    Raises MissingProgram, BrowserCrashed, LockTimeout.
    """
    check_url(connection.name, connection.base_url)
    turn = nullcontext() if connection.shared else locks.exclusive(connection.resource)
    async with turn, _page(connection) as page:
        yield page


@asynccontextmanager
async def _page(connection: Connection) -> AsyncIterator[Page]:
    executable = find_executable(connection.executable)
    async with async_playwright() as playwright:
        browser = await _launch(playwright, connection, executable)
        try:
            context = await browser.new_context(
                base_url=connection.base_url,
                viewport={"width": connection.width, "height": connection.height},
                locale=connection.locale,
            )
            if rehearsing.get():
                await context.route(lambda url: not is_here(urlsplit(url).hostname or ""), _refuse)
            context.set_default_timeout(connection.timeout / timedelta(milliseconds=1))
            yield await context.new_page()
        finally:
            await browser.close()


async def _refuse(route: Route) -> None:
    """Refuse what a page asks of another machine."""
    await route.abort("blockedbyclient")


async def _launch(
    playwright: Playwright, connection: Connection, executable: Path | None
) -> Browser:
    args = [*_QUIET, "--no-sandbox"] if os.geteuid() == 0 else list(_QUIET)
    try:
        return await playwright.chromium.launch(
            executable_path=executable, headless=connection.headless, args=args
        )
    except PlaywrightError as error:
        if "Executable doesn't exist" in error.message:
            raise errors.MissingProgram("no browser is installed", hint=_HOW_TO_INSTALL) from error
        first = error.message.strip().splitlines()[0]
        raise errors.BrowserCrashed(
            f"{connection.name}: the browser does not start: {first}"
        ) from error
