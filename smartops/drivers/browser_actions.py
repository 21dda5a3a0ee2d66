"""The actions of a browser step on an open page, and what their failures mean."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never
from urllib.parse import urlsplit

from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Locator, Page, Response, expect
from playwright.async_api import TimeoutError as PlaywrightTimeout

from smartops import errors
from smartops.drivers.browser import Connection
from smartops.vocabulary import (
    Action,
    Click,
    Expect,
    Extract,
    Fill,
    Goto,
    Screenshot,
    Target,
)

_PICTURE_WAIT_MS = 3000
_PICTURE_TRIES = 3
logger = logging.getLogger(__name__)
_UNREACHABLE = ("ERR_CONNECTION", "ERR_NAME_NOT_RESOLVED", "ERR_ADDRESS", "ERR_TIMED_OUT")


@dataclass
class Visit:
    """What came of a list of actions so far."""

    values: dict[str, str] = field(default_factory=dict)
    screenshots: list[dict[str, Any]] = field(default_factory=list)
    acted: bool = False
    """Whether something was clicked: the page may have done something about it."""


class Actor:
    """Performs actions on one page."""

    def __init__(self, page: Page, connection: Connection, evidence: Path) -> None:
        self._page = page
        self._connection = connection
        self._evidence = evidence
        self._refused: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.visit = Visit()
        page.on("response", self._watch)

    async def perform(self, actions: Sequence[Action]) -> Visit:
        """Do all actions in order; take a picture when one fails.

        Raises PageNotReady, AuthenticationFailed, ServiceUnavailable, BrowserCrashed.
        """
        for number, action in enumerate(actions, start=1):
            what = f"{self._connection.name}: action {number} ({describe(action)})"
            try:
                await self._until_refused(action)
            except (PlaywrightError, AssertionError) as error:
                await self._picture_of_failure()
                raise self._map(error, what) from error
            except errors.SmartOpsError:
                await self._picture_of_failure()
                raise
        return self.visit

    async def _until_refused(self, action: Action) -> None:
        """Perform the action, but stop waiting once the site has said that the login is wrong."""
        doing = asyncio.create_task(self._perform(action))
        waiting: set[asyncio.Future[Any]] = {doing, self._refused}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._refused.done() and not isinstance(action, Goto):
                raise errors.AuthenticationFailed(
                    f"{self._connection.name}: {urlsplit(self._page.url).path} answered "
                    f"{self._refused.result()}",
                    hint=f"Check user name and password of profile {self._connection.name!r}.",
                )
            await doing
        finally:
            if not doing.done():
                doing.cancel()
                await asyncio.gather(doing, return_exceptions=True)

    def _watch(self, response: Response) -> None:
        document = response.request.is_navigation_request()
        if document and response.status in {401, 403} and not self._refused.done():
            self._refused.set_result(response.status)

    async def _perform(self, action: Action) -> None:
        match action:
            case Goto():
                await self._goto(action)
            case Fill():
                await self._locate(action.target).fill(self._text_for(action))
            case Click():
                self.visit.acted = True
                await self._locate(action.target).click(click_count=action.times)
            case Expect():
                await self._expect(action)
            case Extract():
                text = await self._locate(action.target).inner_text()
                self.visit.values[action.output] = text.strip()
            case Screenshot():
                await self._screenshot(action.name, full_page=action.full_page)
            case _:
                assert_never(action)

    async def _goto(self, action: Goto) -> None:
        if "://" in action.path or action.path.startswith("//"):
            raise errors.BadInput(
                f"{self._connection.name}: {action.path!r} is no path below the base URL"
            )
        response = await self._page.goto(action.path)
        status = response.status if response else 200
        if status in {401, 403}:
            raise errors.AuthenticationFailed(
                f"{self._connection.name}: {action.path} answered {status}"
            )
        if status >= 500:
            raise errors.ServiceUnavailable(
                f"{self._connection.name}: {action.path} answered {status}"
            )
        if status >= 400:
            raise errors.ExpectationFailed(
                f"{self._connection.name}: {action.path} answered {status}"
            )

    async def _expect(self, action: Expect) -> None:
        locator = self._locate(action.target)
        limit = self._connection.timeout.total_seconds() * 1000
        if not action.visible:
            await expect(locator).to_be_hidden(timeout=limit)
        elif action.contains is None:
            await expect(locator).to_be_visible(timeout=limit)
        else:
            await expect(locator).to_contain_text(action.contains, timeout=limit)

    def _text_for(self, action: Fill) -> str:
        if action.credential is None:
            return action.value or ""
        text = getattr(self._connection, action.credential)
        if not text:
            raise errors.BadInput(
                f"profile {self._connection.name!r} has no {action.credential} to type"
            )
        return str(text)

    def _locate(self, target: Target) -> Locator:
        if target.label is not None:
            return self._page.get_by_label(target.label)
        if target.role is not None:
            role: Any = target.role
            return self._page.get_by_role(role, name=target.name)
        if target.text is not None:
            return self._page.get_by_text(target.text)
        if target.test_id is not None:
            return self._page.get_by_test_id(target.test_id)
        return self._page.locator(target.css or "")

    async def _screenshot(self, name: str, *, full_page: bool = False) -> None:
        self._evidence.mkdir(parents=True, exist_ok=True)
        path = self._evidence / f"{name}.png"
        picture = await self._page.screenshot(path=path, full_page=full_page)
        digest = hashlib.sha256(picture).hexdigest()
        self.visit.screenshots.append(
            {"name": name, "path": str(path), "sha256": digest, "bytes": len(picture)}
        )

    async def _picture_of_failure(self) -> None:
        for _ in range(_PICTURE_TRIES):  # a page that is just being replaced has no picture yet
            try:
                with contextlib.suppress(PlaywrightTimeout):
                    await self._page.wait_for_load_state(timeout=_PICTURE_WAIT_MS)
                await self._screenshot("failure")
            except PlaywrightError as error:
                logger.debug("no picture of the failure: %s", error)
            else:
                return

    def _map(self, error: Exception, what: str) -> errors.SmartOpsError:
        message = str(error)
        first = message.strip().splitlines()[0] if message.strip() else type(error).__name__
        if isinstance(error, (PlaywrightTimeout, AssertionError)):
            where = urlsplit(self._page.url).path or self._page.url
            seconds = self._connection.timeout.total_seconds()
            return errors.PageNotReady(f"{what}: not there after {seconds:g} s on {where}")
        if any(code in message for code in _UNREACHABLE):
            return errors.ServiceUnavailable(
                f"{what}: no connection to {self._connection.base_url}"
            )
        if "closed" in message or "crashed" in message:
            return errors.BrowserCrashed(f"{what}: {first}")
        return errors.ExpectationFailed(f"{what}: {first}")


def describe(action: Action) -> str:
    """Return an action in a few words, without what it types."""
    match action:
        case Goto():
            return f"goto {action.path}"
        case Screenshot():
            return f"screenshot {action.name}"
        case _:
            given = action.target.model_dump(exclude_none=True)
            return f"{action.do} " + " ".join(f"{way}={text!r}" for way, text in given.items())
