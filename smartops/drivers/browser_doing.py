"""How each action is done on the page."""

from __future__ import annotations

import asyncio
import csv
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_never
from urllib.parse import urlsplit

from playwright.async_api import Download as PageDownload
from playwright.async_api import Error as PlaywrightError
from playwright.async_api import Locator, Response, expect

from smartops import errors
from smartops.drivers.browser_locating import CELLS, locate
from smartops.evidence_store import KeptFile
from smartops.page_actions import (
    Action,
    Click,
    Dialog,
    Download,
    Evaluate,
    Expect,
    Extract,
    Fill,
    Goto,
    Hover,
    Pdf,
    Press,
    ReadTable,
    Screenshot,
    Select,
    SetChecked,
    Tab,
    Target,
    Upload,
    WaitFor,
)
from smartops.page_table import typed_rows

if TYPE_CHECKING:
    from smartops.drivers.browser_actions import Actor

_DISCS = "element => { if (element.type !== 'password') element.style.webkitTextSecurity = 'disc' }"
_STARTED = "Download is starting"


async def do(actor: Actor, action: Action, what: str) -> None:
    """Do one action. Raises errors of Playwright and of our tree."""
    if isinstance(action, (Click, Select, SetChecked, Press, Upload, Evaluate)):
        actor.visit.acted = True
    match action:
        case Click():
            await _click(actor, action)
        case Hover() | Select() | SetChecked() | Press():
            await _touch(actor, action)
        case Fill():
            await _fill(actor, action)
        case Upload():
            await _upload(actor, action)
        case Download():
            await _download(actor, action, what)
        case WaitFor() | Expect():
            await _wait(actor, action)
        case Extract() | Evaluate():
            await _extract(actor, action)
        case ReadTable():
            await _read_table(actor, action, what)
        case Screenshot() | Pdf():
            await _print(actor, action)
        case Goto() | Dialog() | Tab():
            raise TypeError(f"{action.do} is about the session")
        case _:
            assert_never(action)


def _located(actor: Actor, target: Target) -> Locator:
    return locate(actor.page, target)


async def _click(actor: Actor, action: Click) -> None:
    limit = actor.limit_ms(action)
    target = _located(actor, action.target)
    if action.opens is None:
        await target.click(click_count=action.times, button=action.button, timeout=limit)
        return
    async with actor.page.expect_popup(timeout=limit) as opened:
        await target.click(click_count=action.times, button=action.button, timeout=limit)
    page = await opened.value
    await page.wait_for_load_state(timeout=limit)
    actor.tabs[action.opens] = actor.session.page = page


async def _touch(actor: Actor, action: Hover | Select | SetChecked | Press) -> None:
    limit = actor.limit_ms(action)
    match action:
        case Hover():
            await _located(actor, action.target).hover(timeout=limit)
        case Select():
            await _located(actor, action.target).select_option(list(action.options), timeout=limit)
        case SetChecked():
            await _located(actor, action.target).set_checked(action.checked, timeout=limit)
        case Press() if action.target is not None:
            await _located(actor, action.target).press(action.keys, timeout=limit)
        case Press():
            await actor.page.keyboard.press(action.keys)


async def _fill(actor: Actor, action: Fill) -> None:
    limit = actor.limit_ms(action)
    target = _located(actor, action.target)
    if action.credential is None:
        await target.fill(action.value or "", timeout=limit)
        return
    text = actor.connection.credential(action.credential)
    if action.credential != "username":
        actor.session.recorder.typed.add(text)
        await target.evaluate(_DISCS, timeout=limit)
    await target.fill(text, timeout=limit)


async def _upload(actor: Actor, action: Upload) -> None:
    files = [_allowed(actor.uploads, name) for name in action.files]
    target = _located(actor, action.target)
    await target.set_input_files(files, timeout=actor.limit_ms(action))


def _allowed(folders: Sequence[Path], name: str) -> Path:
    """Return a file's path; raise BadInput for one that is not there or may not be uploaded."""
    tried = [(folder / name).resolve() for folder in folders]
    for folder, path in zip(folders, tried, strict=True):
        if path.is_relative_to(folder.resolve()) and path.is_file():
            return path
    places = ", ".join(map(str, folders)) or "none"
    raise errors.BadInput(
        f"there is no file {name!r} to upload (folders: {places})",
        hint="Put it there, or name its folder in SMARTOPS_UPLOADS.",
    )


async def _download(actor: Actor, action: Download, what: str) -> None:
    limit = actor.limit_ms(action)
    async with actor.page.expect_download(timeout=limit) as begun:
        if action.target is not None:
            actor.visit.acted = True
            await _located(actor, action.target).click(timeout=limit)
        else:
            await _ask_for(actor, action.path or "", what, limit)
    download: PageDownload = await begun.value
    if (problem := await download.failure()) is not None:
        raise errors.ServiceUnavailable(f"{what}: the download broke off: {problem}")
    name = re.sub(r"[^\w.+ -]", "_", Path(download.suggested_filename).name).lstrip(".") or "file"
    path = actor.session.recorder.free_name(name)
    size = (await download.path()).stat().st_size
    _check_size(action, size, what)
    await download.save_as(path)
    kept = actor.session.recorder.add(path)
    _check_file(action, kept, download.suggested_filename, what)
    actor.visit.values[action.output] = {
        "name": kept.name,
        "bytes": kept.size,
        "sha256": kept.sha256,
        "place": str(kept.path),
    }


async def _ask_for(actor: Actor, path: str, what: str, limit: float) -> None:
    """Open an address whose answer is a file."""
    if "://" in path or path.startswith("//"):
        raise errors.BadInput(f"{what}: {path!r} is no path below the base URL")
    try:
        response = await actor.page.goto(path, timeout=limit)
    except PlaywrightError as error:
        if _STARTED in error.message:
            return
        raise
    status = response.status if response else 200
    if status >= 500:
        raise errors.ServiceUnavailable(f"{what}: it answered {status}")
    if status in {401, 403}:
        raise errors.AuthenticationFailed(f"{what}: it answered {status}")
    problem = f"it answered {status}" if status >= 400 else "it is a page, and no file"
    raise errors.ExpectationFailed(f"{what}: {problem}")


def _check_size(action: Download, size: int, what: str) -> None:
    if not action.min_bytes <= size <= action.max_bytes:
        raise errors.ExpectationFailed(
            f"{what}: the file has {size} bytes, and {int(action.min_bytes)} to "
            f"{int(action.max_bytes)} are expected"
        )


def _check_file(action: Download, kept: KeptFile, name: str, what: str) -> None:
    if action.file_name is not None and not fnmatchcase(name, action.file_name):
        raise errors.ExpectationFailed(f"{what}: the file is called {name!r}")
    if action.sha256 is not None and action.sha256 != kept.sha256:
        raise errors.ExpectationFailed(f"{what}: the file's SHA-256 is {kept.sha256}")


async def _wait(actor: Actor, action: WaitFor | Expect) -> None:
    if isinstance(action, WaitFor):
        await _wait_for(actor, action)
    else:
        await _expect(actor, action)


async def _wait_for(actor: Actor, action: WaitFor) -> None:
    limit = actor.limit_ms(action)
    if action.target is not None:
        await _located(actor, action.target).wait_for(state=action.state, timeout=limit)
    elif action.path is not None:
        pattern = action.path
        await actor.page.wait_for_url(lambda url: _fits(url, pattern), timeout=limit)
    elif action.load is not None:
        await actor.page.wait_for_load_state(action.load, timeout=limit)
    else:
        wanted = action.answer or ""

        def is_it(response: Response) -> bool:
            return response.ok and _fits(response.url, wanted)

        await actor.page.wait_for_event("response", is_it, timeout=limit)


def _fits(url: str, pattern: str) -> bool:
    return fnmatchcase(urlsplit(url).path, pattern)


async def _expect(actor: Actor, action: Expect) -> None:
    limit = actor.limit_ms(action)
    if action.path is not None:
        pattern = action.path
        await actor.page.wait_for_url(lambda url: _fits(url, pattern), timeout=limit)
    if action.page_title is not None:
        title = re.compile(re.escape(action.page_title))
        await expect(actor.page).to_have_title(title, timeout=limit)
    if action.target is not None:
        await _expect_of(_located(actor, action.target), action, limit)


async def _expect_of(locator: Locator, action: Expect, limit: float) -> None:
    """Wait until an element is as it should be."""
    if action.count is not None:
        await expect(locator).to_have_count(action.count, timeout=limit)
    elif not action.visible:
        await expect(locator).to_be_hidden(timeout=limit)
        return
    elif action.contains is None:
        await expect(locator).to_be_visible(timeout=limit)
    if action.contains is not None:
        await expect(locator).to_contain_text(action.contains, timeout=limit)
    if action.equals is not None:
        await expect(locator).to_have_text(action.equals, timeout=limit)
    if action.value is not None:
        await expect(locator).to_have_value(action.value, timeout=limit)
    if action.checked is not None:
        await expect(locator).to_be_checked(checked=action.checked, timeout=limit)
    if action.enabled is not None:
        await expect(locator).to_be_enabled(enabled=action.enabled, timeout=limit)


async def _extract(actor: Actor, action: Extract | Evaluate) -> None:
    if isinstance(action, Extract):
        locator = _located(actor, action.target)
        limit = actor.limit_ms(action)
        take = _every if action.every else _only
        actor.visit.values[action.output] = await take(locator, action.attribute, limit)
        return
    if action.target is None:
        try:
            async with asyncio.timeout(actor.limit_ms(action) / 1000):
                value = await actor.page.evaluate(action.script)
        except TimeoutError:
            limit = actor.limit_ms(action) / 1000
            raise errors.PageNotReady(f"the script has not ended after {limit:g} s") from None
    else:
        target = _located(actor, action.target)
        value = await target.evaluate(action.script, timeout=actor.limit_ms(action))
    if action.output is not None:
        actor.visit.values[action.output] = value


async def _only(locator: Locator, attribute: str | None, limit: float) -> str | None:
    if attribute is None:
        return (await locator.inner_text(timeout=limit)).strip()
    if attribute == "value":
        return await locator.input_value(timeout=limit)
    return await locator.get_attribute(attribute, timeout=limit)


async def _every(locator: Locator, attribute: str | None, _limit: float) -> list[str | None]:
    if attribute is None:
        return [text.strip() for text in await locator.all_inner_texts()]
    found: list[str | None] = await locator.evaluate_all(
        "(all, name) => all.map(one => name === 'value' ? one.value : one.getAttribute(name))",
        attribute,
    )
    return found


async def _read_table(actor: Actor, action: ReadTable, what: str) -> None:
    target = _located(actor, action.target)
    limit = actor.limit_ms(action)
    found: dict[str, Any] = await target.evaluate(CELLS, action.max_rows, timeout=limit)
    rows = typed_rows(action, found["head"], found["rows"], what)
    actor.visit.values[action.output] = rows
    if action.keep:
        path = actor.session.recorder.free_name(f"{action.output}.csv")
        with path.open("w", encoding="utf-8", newline="") as text:
            writer = csv.DictWriter(text, [column.name for column in action.columns])
            writer.writeheader()
            writer.writerows(rows)
        actor.session.recorder.add(path)


async def _print(actor: Actor, action: Screenshot | Pdf) -> None:
    recorder = actor.session.recorder
    if isinstance(action, Screenshot):
        kept = await recorder.picture(
            actor.page,
            action.name,
            full_page=action.full_page,
            target=_located(actor, action.target) if action.target else None,
            cover=[_located(actor, target) for target in action.cover],
            limit_ms=actor.limit_ms(action),
        )
    else:
        path = recorder.free_name(f"{action.name}.pdf")
        async with recorder.hidden(actor.page):
            await actor.page.pdf(path=path, format=action.paper, landscape=action.landscape)
        kept = recorder.add(path)
    actor.visit.screenshots.append(
        {"name": action.name, "path": str(kept.path), "sha256": kept.sha256, "bytes": kept.size}
    )
