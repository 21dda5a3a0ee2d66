"""What is kept of a browser session: pictures, the trace, the network log, the console, videos."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import BrowserContext, ConsoleMessage, Locator, Page, Request, WebError
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import TimeoutError as PlaywrightTimeout

from smartops import redact
from smartops.drivers.browser_masking import Masker
from smartops.evidence_store import KeptFile, kept_file

Kind = Literal["screenshot", "console", "trace", "har", "video"]
_FINISH_S, _PICTURE_WAIT_MS, _PICTURE_TRIES = 15.0, 3000, 3
_MOST_LINES = 10_000
_COOKIE_LENGTH = 8
logger = logging.getLogger(__name__)

_HIDE = """secrets => {
  const done = [], shown = "********";
  const look = root => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    for (let node = walker.currentNode; node; node = walker.nextNode()) {
      if (node.shadowRoot) look(node.shadowRoot);
      if (node.nodeType === 3 && secrets.some(secret => node.data.includes(secret))) {
        const before = node.data;
        node.data = secrets.reduce((text, secret) => text.replaceAll(secret, shown), before);
        done.push([node, before, node.data]);
      } else if (typeof node.value === "string" && secrets.some(s => node.value.includes(s)))
        node.style.webkitTextSecurity = "disc";
    }
  };
  look(document);
  return done;
}"""
_SHOW = "done => { for (const [n, before, now] of done) if (n.data === now) n.data = before; }"


@dataclass(frozen=True)
class Keeping:
    """What is kept: ``always``, or of a session that failed."""

    what: frozenset[Kind] = frozenset()
    always: bool = False


NOTHING = Keeping()


class Recorder:
    """Collects the evidence of one session in a folder, without the secrets."""

    def __init__(
        self,
        context: BrowserContext,
        keeping: Keeping,
        work: Path,
        folder: Path,
        secrets: Iterable[str] = (),
    ) -> None:
        self._context, self._keeping = context, keeping
        self._work, self._folder = work, folder
        self._lines: list[str] = []
        self._secrets = set(secrets)
        self.typed: set[str] = set()
        """The secrets that were typed into the pages: hidden in pictures."""
        self.files: list[KeptFile] = []

    async def start(self) -> None:
        """Begin to record."""
        if "console" in self._keeping.what:
            self._context.on("console", self._said)
            self._context.on("weberror", self._raised)
            self._context.on("requestfailed", self._request_failed)
        if "trace" in self._keeping.what:
            # No pictures of the screen: what stands in them cannot be masked. Its snapshots of the
            # page show the same in the trace viewer.
            await self._context.tracing.start(snapshots=True, screenshots=False)

    def note(self, text: str) -> None:
        """Add a line to the console's."""
        if len(self._lines) < _MOST_LINES:
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            self._lines.append(f"{now} {text}")

    def _said(self, message: ConsoleMessage) -> None:
        self.note(f"{message.type}: {message.text}")

    def _raised(self, error: WebError) -> None:
        self.note(f"uncaught: {error.error.message}")

    def _request_failed(self, request: Request) -> None:
        self.note(f"request failed: {request.method} {request.url}: {request.failure}")

    def free_name(self, name: str) -> Path:
        """Return a path in the folder that no other file has."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path, number = self._folder / name, 2
        while path.exists():
            path = self._folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
            number += 1
        return path

    def add(self, path: Path) -> KeptFile:
        """Keep a file that is in the folder."""
        kept = kept_file(path)
        self.files.append(kept)
        return kept

    async def picture(
        self,
        page: Page,
        name: str,
        *,
        full_page: bool = False,
        target: Locator | None = None,
        cover: Iterable[Locator] = (),
        limit_ms: float | None = None,
    ) -> KeptFile:
        """Take a picture; secrets that were typed are hidden in it. Raises PlaywrightError."""
        path = self.free_name(f"{name}.png")
        options: dict[str, Any] = {"path": path, "mask": list(cover), "timeout": limit_ms}
        async with self.hidden(page):
            if target is not None:
                await target.screenshot(**options)
            else:
                await page.screenshot(full_page=full_page, **options)
        return self.add(path)

    @asynccontextmanager
    async def hidden(self, page: Page) -> AsyncIterator[None]:
        """Hide what was typed from the texts of a page for a moment."""
        handles = []
        if self.typed:
            for frame in page.frames:
                with contextlib.suppress(PlaywrightError):
                    handles.append(await frame.evaluate_handle(_HIDE, sorted(self.typed)))
        try:
            yield
        finally:
            for handle in handles:
                with contextlib.suppress(PlaywrightError):
                    await handle.evaluate(_SHOW)
                    await handle.dispose()

    async def finish(self, page: Page, *, failed: bool) -> None:
        """Take what has to be taken as long as the pages are open. It never raises."""
        if not (failed or self._keeping.always):
            return
        try:
            async with asyncio.timeout(_FINISH_S):
                if "screenshot" in self._keeping.what:
                    await self._last_picture(page, "failure" if failed else "end")
                await self._learn_cookies()
                if "trace" in self._keeping.what:
                    await self._context.tracing.stop(path=self._work / "trace.zip")
        except (PlaywrightError, TimeoutError, OSError) as error:
            logger.debug("not all of the evidence could be taken: %s", error)

    async def _last_picture(self, page: Page, name: str) -> None:
        for _ in range(_PICTURE_TRIES):  # a page that is just being replaced has no picture yet
            try:
                with contextlib.suppress(PlaywrightTimeout):
                    await page.wait_for_load_state(timeout=_PICTURE_WAIT_MS)
                await self.picture(page, name, limit_ms=_PICTURE_WAIT_MS)
            except PlaywrightError as error:
                logger.debug("no picture of the page: %s", error)
            else:
                return

    async def _learn_cookies(self) -> None:
        """Learn what else is secret: cookies, and what a page keeps under a secret's name."""
        for cookie in await self._context.cookies():
            value = cookie.get("value", "")
            if len(value) >= _COOKIE_LENGTH:
                self._secrets.add(value)
        for origin in (await self._context.storage_state()).get("origins", []):
            for item in origin.get("localStorage", []):
                if redact.names_secret(item["name"]) and len(item["value"]) >= _COOKIE_LENGTH:
                    self._secrets.add(item["value"])

    def collect(self, *, failed: bool) -> None:
        """Mask and keep what the closed session has left in its work folder. It never raises."""
        if not (failed or self._keeping.always):
            return
        try:
            masker = Masker(redact.secrets() | self._secrets)
            if (trace := self._work / "trace.zip").exists():
                masker.trace(trace)
                self._move(trace, "trace.zip")
            if (har := self._work / "network.har").exists():
                masker.har(har)
                self._move(har, "network.har")
            for number, video in enumerate(sorted(self._work.glob("*.webm")), start=1):
                self._move(video, "video.webm" if number == 1 else f"video-{number}.webm")
            if "console" in self._keeping.what:
                path = self.free_name("console.txt")
                lines = "".join(f"{redact.text(line)}\n" for line in self._lines)
                path.write_text(masker.text(lines), "utf-8")
                self.add(path)
        except (OSError, ValueError, KeyError) as error:
            logger.warning("evidence of a browser session is lost: %s", redact.text(str(error)))

    def _move(self, path: Path, name: str) -> None:
        place = self.free_name(name)
        shutil.move(path, place)
        self.add(place)
