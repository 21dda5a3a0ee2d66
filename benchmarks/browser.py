"""What SmartOps adds to a page visit, beside Playwright alone: the same pages, the same browser."""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, async_playwright, expect

from smartops.drivers import browser, browser_warm
from smartops.drivers.browser_actions import Actor
from smartops.page_actions import Expect, Extract, Goto
from smartops.page_target import Target
from smartops.plant import Plant
from smartops.settings import get_settings

VISITS, ROUNDS, FIRST = 100, 4, 5
"""How many visits each way, in how many turns, and how many before they are counted."""
_HEADING = Target(role="heading")
_ACTIONS = (
    Goto(path="/zoo/"),
    Expect(target=_HEADING, contains="Page zoo"),
    Extract(target=_HEADING, output="title"),
)
_EVIDENCE = browser.Keeping(frozenset({"screenshot", "console", "trace", "har"}))


def run(home: str) -> dict[str, Any]:
    """Visit a page 100 times each way, in turns; return seconds a visit."""
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    samples = asyncio.run(_measure(Path(home)))
    bare, plain, whole = (statistics.median(samples[name]) for name in samples)
    return {
        "ratio_to_bare_library": plain / bare,
        "ratio_with_evidence": whole / bare,
        "bare_playwright_s": bare,
        "smartops_s": plain,
        "smartops_with_evidence_s": whole,
        "n": VISITS,
        "samples": samples,
    }


async def _measure(home: Path) -> dict[str, list[float]]:
    arguments = ["--no-sandbox", "--disable-gpu"]
    async with (
        Plant(seed=1, opcua=False) as plant,
        browser_warm.kept_warm(),
        async_playwright() as playwright,
    ):
        connection = browser.Connection("zoo", plant.addresses.hmi_url)
        alone = await playwright.chromium.launch(
            executable_path=browser.find_executable(), args=arguments
        )
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "bare": lambda: _bare(alone, connection.base_url),
            "smartops": lambda: _ours(connection, browser.Keeping(), home),
            "smartops_with_evidence": lambda: _ours(connection, _EVIDENCE, home),
        }
        samples: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(ROUNDS + 1):
            for name, way in ways.items():
                taken = [await _timed(way) for _ in range(VISITS // ROUNDS if turn else FIRST)]
                samples[name] += taken if turn else []
        await alone.close()
    return samples


async def _timed(way: Callable[[], Awaitable[None]]) -> float:
    begun = time.perf_counter()
    await way()
    return time.perf_counter() - begun


async def _bare(alone: Browser, url: str) -> None:
    context = await alone.new_context(base_url=url, viewport={"width": 1280, "height": 800})
    page = await context.new_page()
    await page.goto("/zoo/")
    heading = page.get_by_role("heading")
    await expect(heading).to_contain_text("Page zoo")
    await heading.inner_text()
    await context.close()


async def _ours(connection: browser.Connection, keeping: browser.Keeping, home: Path) -> None:
    async with browser.open_session(connection, keeping, home / "kept") as session:
        await Actor(session).perform(_ACTIONS)
