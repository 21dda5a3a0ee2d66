"""A real browser, with a fresh context for each step that is gone afterwards, whatever happens."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Page, Route, WebSocketRoute
from playwright.async_api import Error as PlaywrightError

from smartops import errors, locks
from smartops.drivers import browser_state
from smartops.drivers.browser_evidence import NOTHING, Keeping, Recorder
from smartops.drivers.browser_process import Launch, how_to_install, running
from smartops.drivers.browser_work import work_folder
from smartops.evidence_store import KeptFile
from smartops.page_actions import Action, Target
from smartops.rehearsal import check_host, check_url, is_here, rehearsing
from smartops.settings import get_settings

__all__ = ["Connection", "Keeping", "KeptFile", "Page", "Session", "find_executable", "open_page"]
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_CLOSE_S = 10.0


@dataclass(frozen=True)
class Proxy:
    """What stands between the browser and the site."""

    server: str
    bypass: str = ""
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Login:
    """How to begin a session, and how to see that there is none."""

    actions: tuple[Action, ...]
    logged_out: Target | None = None
    logged_out_path: str | None = None
    logged_in: Target | None = None


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
    kind: str = "chromium"
    timezone: str | None = None
    user_agent: str | None = None
    proxy: Proxy | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What may be typed beside user name and password, by name."""
    http_login: bool = False
    any_certificate: bool = False
    keep_session: bool = False
    login: Login | None = None
    allow_scripts: bool = False

    @property
    def resource(self) -> str:
        """What a step holds alone."""
        return f"browser://{self.name}"

    def all_secrets(self) -> set[str]:
        """Return all that must stand in no evidence."""
        proxy = self.proxy.password if self.proxy else None
        return {secret for secret in (self.password, proxy, *self.secrets.values()) if secret}

    def credential(self, name: str) -> str:
        """Return what is typed for a credential. Raises BadInput where the profile has none."""
        own = {"username": self.username, "password": self.password}
        text = own[name] if name in own else self.secrets.get(name)
        if not text:
            raise errors.BadInput(f"profile {self.name!r} has no {name} to type")
        return text


@dataclass
class Session:
    """An open browser context, its first page, and what is kept of it."""

    connection: Connection
    context: BrowserContext
    page: Page
    recorder: Recorder

    @property
    def files(self) -> list[KeptFile]:
        """What is kept; all of it is there when the session is closed."""
        return self.recorder.files

    async def keep_state(self) -> None:
        """Keep the site's session for the next step, where the profile says so."""
        if self.connection.keep_session:
            state = await self.context.storage_state(indexed_db=True)
            await asyncio.to_thread(browser_state.save, self.connection.name, state)


def find_executable(wanted: Path | None = None) -> Path | None:
    """Return the browser to start; None leaves it to Playwright's own download.

    Raises MissingProgram when the one that is asked for does not exist.
    """
    chosen = wanted or get_settings().browser_executable
    if chosen is not None:
        if not chosen.is_file():
            hint = how_to_install("chromium")
            raise errors.MissingProgram(f"there is no browser at {chosen}", hint=hint)
        return chosen
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    return Path(found) if found else None


def _launch(connection: Connection) -> Launch:
    if connection.kind == "chromium":
        executable = find_executable(connection.executable)
    else:
        executable = connection.executable
        if executable is not None:
            executable = find_executable(executable)
    return Launch(connection.kind, executable, connection.headless)


@asynccontextmanager
async def open_page(connection: Connection) -> AsyncIterator[Page]:
    """Give a fresh page with no stored state, as soon as the profile is nobody else's.

    Raises MissingProgram, BrowserCrashed, LockTimeout.
    """
    with tempfile.TemporaryDirectory(prefix="smartops-browser-") as folder:
        async with open_session(connection, NOTHING, Path(folder)) as session:
            yield session.page


@asynccontextmanager
async def open_session(
    connection: Connection, keeping: Keeping, folder: Path
) -> AsyncIterator[Session]:
    """Give a session of its own in a browser; what is kept of it comes into the folder.

    Raises MissingProgram, BrowserCrashed, LockTimeout, RehearsalRefused; BadInput for a key of kept
    sessions that is none.
    """
    check_url(connection.name, connection.base_url)
    if connection.proxy is not None:
        host = urlsplit(connection.proxy.server).hostname or connection.proxy.server
        check_host(f"the proxy of {connection.name}", host)
    turn = nullcontext() if connection.shared else locks.exclusive(connection.resource)
    async with turn, running(_launch(connection), connection.name) as browser:
        with work_folder() as work:
            async with _session(browser, connection, keeping, work, folder) as session:
                yield session


@asynccontextmanager
async def _session(
    browser: Browser, connection: Connection, keeping: Keeping, work: Path, folder: Path
) -> AsyncIterator[Session]:
    session: Session | None = None
    failed = True
    context = await _context(browser, connection, keeping, work)
    recorder = Recorder(context, keeping, work, folder, connection.all_secrets())
    try:
        session = await _opened(context, connection, recorder)
        yield session
        await session.keep_state()
        failed = False
    finally:
        if session is not None:
            await recorder.finish(_last_page(session), failed=failed)
        with suppress(PlaywrightError, TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await context.close()
        await asyncio.to_thread(recorder.collect, failed=failed)


def _last_page(session: Session) -> Page:
    """Return the page that was used last, if it is open still."""
    pages = session.context.pages
    return session.page if session.page in pages or not pages else pages[-1]


async def _context(
    browser: Browser, connection: Connection, keeping: Keeping, work: Path
) -> BrowserContext:
    options = _options(connection)
    if "har" in keeping.what:
        options |= {"record_har_path": work / "network.har", "record_har_content": "omit"}
    if "video" in keeping.what:
        options["record_video_dir"] = work
    if connection.keep_session:
        options["storage_state"] = await asyncio.to_thread(browser_state.load, connection.name)
    try:
        return await browser.new_context(**options)
    except PlaywrightError as error:
        raise _not_opened(connection, error) from error


def _options(connection: Connection) -> dict[str, Any]:
    options: dict[str, Any] = {
        "base_url": connection.base_url,
        "viewport": {"width": connection.width, "height": connection.height},
        "locale": connection.locale,
        "timezone_id": connection.timezone,
        "user_agent": connection.user_agent,
        "ignore_https_errors": connection.any_certificate,
    }
    if rehearsing.get():
        options["service_workers"] = "block"  # their requests could not be refused
    if connection.http_login:
        address = urlsplit(connection.base_url)
        options["http_credentials"] = {
            "username": connection.credential("username"),
            "password": connection.credential("password"),
            "origin": f"{address.scheme}://{address.netloc}",
        }
    if connection.proxy is not None:
        given = vars(connection.proxy)
        options["proxy"] = {name: value for name, value in given.items() if value}
    return options


async def _opened(context: BrowserContext, connection: Connection, recorder: Recorder) -> Session:
    try:
        if rehearsing.get():
            await context.route(lambda url: not is_here(urlsplit(url).hostname or ""), _refuse)
            await context.route_web_socket(
                lambda url: not is_here(urlsplit(url).hostname or ""), _refuse_socket
            )
        context.set_default_timeout(connection.timeout / timedelta(milliseconds=1))
        await recorder.start()
        return Session(connection, context, await context.new_page(), recorder)
    except PlaywrightError as error:
        raise _not_opened(connection, error) from error


def _not_opened(connection: Connection, error: PlaywrightError) -> errors.SmartOpsError:
    if "ffmpeg" in error.message:
        return errors.MissingProgram(
            f"{connection.name}: videos need Playwright's ffmpeg",
            hint="Install it with `playwright install ffmpeg`, or keep no video.",
        )
    first = error.message.strip().splitlines()[0]
    if "closed" in error.message or "crashed" in error.message:
        return errors.BrowserCrashed(f"{connection.name}: {first}")
    return errors.BadInput(f"{connection.name}: the browser does not take the profile: {first}")


async def _refuse(route: Route) -> None:
    """Refuse what a page asks of another machine."""
    await route.abort("blockedbyclient")


async def _refuse_socket(socket: WebSocketRoute) -> None:
    await socket.close(code=1008, reason="a rehearsal reaches nothing but this machine")
