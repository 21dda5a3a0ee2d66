"""The actions of a browser step on an open session, and what their failures mean."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.async_api import Dialog as PageDialog
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Page, Response
from playwright.async_api import TimeoutError as PlaywrightTimeout

from smartops import errors, redact
from smartops.drivers import browser_doing
from smartops.drivers.browser import Login, Session
from smartops.drivers.browser_locating import locate
from smartops.drivers.browser_masking import Masker
from smartops.page_actions import Action, Dialog, Evaluate, Goto, Tab, Target

_UNREACHABLE = (
    "ERR_CONNECTION",
    "ERR_NAME_NOT_RESOLVED",
    "ERR_ADDRESS",
    "ERR_TIMED_OUT",
    "ERR_PROXY",
    "ERR_TUNNEL",
    "ERR_EMPTY_RESPONSE",
    "ERR_INTERNET",
)


@dataclass
class Visit:
    """What came of a list of actions so far."""

    values: dict[str, Any] = field(default_factory=dict)
    screenshots: list[dict[str, Any]] = field(default_factory=list)
    acted: bool = False
    """Whether something was clicked or sent: the page may have done something about it."""


class Actor:
    """Performs actions in one session."""

    def __init__(self, session: Session, uploads: Sequence[Path] = ()) -> None:
        """Take a session; ``uploads`` are the folders from which files may be given to a page."""
        self.session = session
        self.uploads = tuple(uploads)
        self.connection = session.connection
        self.visit = Visit()
        self.tabs: dict[str, Page] = {"main": session.page}
        self._answers: list[Dialog] = []
        self._trouble: asyncio.Future[errors.SmartOpsError] = _future()
        session.context.on("response", self._watch)
        session.context.on("dialog", self._asked)

    @property
    def page(self) -> Page:
        """The tab that actions are done in."""
        return self.session.page

    async def perform(self, actions: Sequence[Action]) -> Visit:
        """Do all actions in order; log in where the profile says how and there is no session.

        Raises PageNotReady, AuthenticationFailed, ServiceUnavailable, ExpectationFailed,
        BrowserCrashed, BadInput; what a page says of a secret stands in none of them.
        """
        try:
            return await self._perform_all(actions)
        except errors.SmartOpsError as error:
            masker = Masker(redact.secrets() | self.connection.all_secrets())
            error.args = (masker.text(str(error.args[0])), *error.args[1:])
            raise

    async def _perform_all(self, actions: Sequence[Action]) -> Visit:
        self._check(actions)
        try:
            await self._all(actions)
        except (errors.PageNotReady, errors.ExpectationFailed, errors.AuthenticationFailed):
            if self.visit.acted or not await self._is_logged_out(quickly=True):
                raise
            await self._log_in()  # the session ended under way, and nothing was done yet
            self.visit.values.clear()
            self._answers.clear()
            await self._all(actions)
        if self._answers:
            raise errors.ExpectationFailed(
                f"{self.connection.name}: the dialog that was to be answered did not come"
            )
        return self.visit

    def _check(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Evaluate) and not self.connection.allow_scripts:
                raise errors.BadInput(
                    f"profile {self.connection.name!r} does not allow scripts",
                    hint="Set allow_scripts in the profile, or do without eval.",
                )

    async def _all(self, actions: Sequence[Action]) -> None:
        for number, action in enumerate(actions, start=1):
            await self._one(action, f"{self.connection.name}: action {number}")

    async def _one(self, action: Action, which: str) -> None:
        what = f"{which} ({describe(action)})"
        try:
            await self._until_trouble(action, what)
        except (PlaywrightError, AssertionError) as error:
            raise self._map(error, action, what) from error

    async def _until_trouble(self, action: Action, what: str) -> None:
        """Perform the action, but stop waiting once it is known that it is in vain."""
        doing = asyncio.create_task(self._perform(action, what))
        waiting: set[asyncio.Future[Any]] = {doing, self._trouble}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._trouble.done() and not isinstance(action, Goto):
                raise self._trouble.result()
            await doing
        finally:
            if not doing.done():
                doing.cancel()
                await asyncio.gather(doing, return_exceptions=True)

    def _watch(self, response: Response) -> None:
        try:
            top = response.request.is_navigation_request() and not response.frame.parent_frame
        except PlaywrightError:
            return  # of a service worker, or of a page that is just being made
        if top and response.status in {401, 403} and not self._trouble.done():
            name = self.connection.name
            self._trouble.set_result(
                errors.AuthenticationFailed(
                    f"{name}: {urlsplit(response.url).path} answered {response.status}",
                    hint=f"Check user name and password of profile {name!r}.",
                )
            )

    async def _asked(self, dialog: PageDialog) -> None:
        """Answer a dialog as the job says; what nobody has answered for is a failure."""
        self.session.recorder.note(f"dialog: {dialog.type}: {dialog.message}")
        answer = self._answers.pop(0) if self._answers else None
        problem = ""
        if answer is not None and (answer.contains or "") not in dialog.message:
            problem = f"which does not contain {answer.contains!r}"
        elif answer is None and dialog.type in {"confirm", "prompt"}:
            problem = "and the job does not say what to answer"
        if problem and not self._trouble.done():
            text = f"{self.connection.name}: the page asked {dialog.message!r}, {problem}"
            hint = "Put a `dialog` action before the one that opens it."
            self._trouble.set_result(errors.ExpectationFailed(text, hint=hint))
        if problem or (answer is not None and answer.answer == "dismiss"):
            await dialog.dismiss()
        else:
            await dialog.accept((answer and answer.text) or "")

    async def _perform(self, action: Action, what: str) -> None:
        match action:
            case Goto():
                await self._goto(action)
            case Dialog():
                self._answers.append(action)
            case Tab():
                await self._tab(action)
            case _:
                await browser_doing.do(self, action, what)

    async def _tab(self, action: Tab) -> None:
        page = self.tabs.get(action.name)
        if page is None:
            raise errors.BadInput(
                f"{self.connection.name}: there is no tab {action.name!r}; there are: "
                f"{', '.join(self.tabs)}"
            )
        if action.close:
            await self.tabs.pop(action.name).close()
            page = self.tabs["main"]
        self.session.page = page
        await page.bring_to_front()

    async def _goto(self, action: Goto) -> None:
        await self._open(action)
        if await self._is_logged_out():
            await self._log_in()
            await self._open(action)
            if await self._is_logged_out():
                raise errors.AuthenticationFailed(
                    f"{self.connection.name}: still logged out after the login",
                    hint=f"Look at the login of profile {self.connection.name!r}.",
                )

    async def _open(self, action: Goto) -> None:
        name, path = self.connection.name, action.path
        if "://" in path or path.startswith("//"):
            raise errors.BadInput(f"{name}: {path!r} is no path below the base URL")
        response = await self.page.goto(
            path, wait_until=action.until, timeout=self.limit_ms(action)
        )
        status = response.status if response else 200
        if status < 400 or (status in {401, 403} and await self._is_logged_out()):
            self._trouble = _future()
        elif status in {401, 403}:
            raise errors.AuthenticationFailed(f"{name}: {path} answered {status}")
        elif status >= 500:
            raise errors.ServiceUnavailable(f"{name}: {path} answered {status}")
        else:
            raise errors.ExpectationFailed(f"{name}: {path} answered {status}")

    async def _is_logged_out(self, *, quickly: bool = False) -> bool:
        """Return whether the page shows that there is no session, where the profile says how."""
        login = self.connection.login
        if login is None:
            return False
        path = urlsplit(self.page.url).path
        if login.logged_out_path is not None and fnmatchcase(path, login.logged_out_path):
            return True
        if login.logged_out is None:
            return False
        out = locate(self.page, login.logged_out).first
        if login.logged_in is not None and not quickly:
            either = out.or_(locate(self.page, login.logged_in).first).first
            await either.wait_for()
        return await out.is_visible()

    async def _log_in(self) -> None:
        login = self.connection.login
        if login is None:
            raise TypeError("there is no way to log in")
        self._trouble = _future()
        self.session.recorder.note("the session has ended, or there is none: logging in")
        acted = self.visit.acted
        await self._make_login(login)
        self.visit.acted = acted  # a login may be repeated
        await self.session.keep_state()

    async def _make_login(self, login: Login) -> None:
        for number, action in enumerate(login.actions, start=1):
            which = f"{self.connection.name}: login action {number}"
            if isinstance(action, Goto):
                await self._open(action)
            else:
                await self._one(action, which)

    def limit_ms(self, action: Action) -> float:
        """Return how long an action may take."""
        limit = getattr(action, "within", None) or self.connection.timeout
        return float(limit / timedelta(milliseconds=1))

    def _map(self, error: Exception, action: Action, what: str) -> errors.SmartOpsError:
        message = str(error)
        first = message.strip().splitlines()[0] if message.strip() else type(error).__name__
        if isinstance(error, (PlaywrightTimeout, AssertionError)):
            where = urlsplit(self.page.url).path or self.page.url
            found = re.search(r"^Actual value: (.+)$", message, re.MULTILINE)
            actual = f" (it is {found[1].strip()[:200]!r})" if found and found[1] != "None" else ""
            seconds = self.limit_ms(action) / 1000
            return errors.PageNotReady(f"{what}: not there after {seconds:g} s on {where}{actual}")
        if any(code in message for code in _UNREACHABLE):
            return errors.ServiceUnavailable(f"{what}: no connection to {self.connection.base_url}")
        if "ERR_INVALID_AUTH" in message:
            return errors.AuthenticationFailed(f"{what}: the site wants another login by HTTP")
        if "strict mode violation" in message:
            return errors.ExpectationFailed(
                f"{what}: several elements match", hint="Say which one: nth, exact, or a role."
            )
        if "closed" in message or "crashed" in message:
            return errors.BrowserCrashed(f"{what}: {first}")
        return errors.ExpectationFailed(f"{what}: {first}")


def _future() -> asyncio.Future[errors.SmartOpsError]:
    return asyncio.get_running_loop().create_future()


def describe(action: Action) -> str:
    """Return an action in a few words, without what it types."""
    words: list[str] = [action.do]
    about = ("path", "name", "keys", "load", "answer", "state")
    words += [str(getattr(action, name)) for name in about if name in action.model_fields_set]
    target: Target | None = getattr(action, "target", None)
    if target is not None:
        given = target.model_dump(exclude_none=True, exclude_defaults=True)
        words += [f"{way}={text!r}" for way, text in given.items()]
    return " ".join(words)
