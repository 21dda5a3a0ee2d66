"""The browser driver in real Chromium against the plant's HMI."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from PIL import Image
from pydantic import TypeAdapter

from smartops import errors
from smartops.drivers import browser
from smartops.drivers.browser_actions import Actor, Visit
from smartops.page_actions import Action
from smartops.plant import Plant
from smartops.plant.web import PASSWORD, USERNAME
from tests.conftest import free_port

pytestmark = pytest.mark.browser
ACTIONS = TypeAdapter(tuple[Action, ...])
PICTURES = browser.Keeping(frozenset({"screenshot"}))
LOGIN: list[dict[str, object]] = [
    {"do": "goto", "path": "/login"},
    {"do": "fill", "target": {"label": "User name"}, "credential": "username"},
    {"do": "fill", "target": {"label": "Password"}, "credential": "password"},
    {"do": "click", "target": {"role": "button", "name": "Log in"}},
]


def profile(plant: Plant, **changes: object) -> browser.Connection:
    fields = {
        "name": "hmi",
        "base_url": plant.addresses.hmi_url,
        "username": USERNAME,
        "password": PASSWORD,
        "timeout": timedelta(seconds=30),
        **changes,
    }
    return browser.Connection(**fields)  # type: ignore[arg-type]


async def perform(
    connection: browser.Connection, actions: Sequence[object], evidence: Path
) -> Visit:
    async with browser.open_session(connection, PICTURES, evidence) as session:
        return await Actor(session).perform(ACTIONS.validate_python(actions))


def browsers() -> list[psutil.Process]:
    """The browser processes below this one; short-lived helpers may end while they are counted."""
    found = []
    for child in psutil.Process(os.getpid()).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "chrom" in child.name():
                found.append(child)
    return found


@pytest.fixture(autouse=True)
def _no_browser_left(chromium: Path) -> object:
    yield
    assert browsers() == []


async def test_every_action(plant: Plant, tmp_path: Path) -> None:
    """Log in, read, click a form through, take a picture."""
    actions = [
        *LOGIN,
        {"do": "expect", "target": {"role": "heading", "name": "Line overview"}},
        {"do": "extract", "target": {"test_id": "batch"}, "output": "batch"},
        {"do": "click", "target": {"css": "form button"}},
        {"do": "expect", "target": {"role": "status"}, "contains": "Shift early is confirmed"},
        {"do": "expect", "target": {"text": "Tank level"}},
        {"do": "screenshot", "name": "line"},
        {"do": "screenshot", "name": "whole", "full_page": True},
    ]
    visit = await perform(profile(plant), actions, tmp_path)
    assert visit.values == {"batch": plant.line.batch}
    assert [e["shift"] for e in plant.log.entries("hmi.shift-confirmed")] == ["early"]
    with Image.open(tmp_path / "line.png") as picture:
        assert picture.size == (1280, 800)
    assert [shot["name"] for shot in visit.screenshots] == ["line", "whole"]


async def test_a_wrong_password_is_told_at_once(plant: Plant, tmp_path: Path) -> None:
    """Not after the time limit of the next action, and as what it is; with a picture."""
    slow = profile(plant, password="wrong-password", timeout=timedelta(seconds=60))
    actions = [*LOGIN, {"do": "expect", "target": {"role": "heading", "name": "Line overview"}}]
    async with asyncio.timeout(55):
        with pytest.raises(errors.AuthenticationFailed) as error:
            await perform(slow, actions, tmp_path)
    assert "'hmi'" in error.value.one_line
    assert "wrong-password" not in error.value.one_line
    assert (tmp_path / "failure.png").is_file()


async def test_an_element_that_does_not_come(plant: Plant, tmp_path: Path) -> None:
    """Transient; the error names the action, the element and the page, in one line."""
    quick = profile(plant, timeout=timedelta(seconds=4))
    patient = {**LOGIN[0], "within": "30s"}
    actions = [patient, {"do": "click", "target": {"text": "Start the line"}}]
    with pytest.raises(errors.PageNotReady) as error:
        await perform(quick, actions, tmp_path)
    assert str(error.value) == (
        "hmi: action 2 (click text='Start the line'): not there after 4 s on /login"
    )


async def test_sites_that_are_away(plant: Plant, tmp_path: Path) -> None:
    """A refused connection and a 503 are both "later"."""
    away = profile(plant, base_url=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(errors.ServiceUnavailable, match="no connection"):
        await perform(away, LOGIN, tmp_path)
    plant.faults.switch_on("hmi-down")
    with pytest.raises(errors.ServiceUnavailable, match="503"):
        await perform(profile(plant), LOGIN, tmp_path)


async def test_the_page_stays_on_its_site(plant: Plant, tmp_path: Path) -> None:
    """A template cannot carry the browser to another host."""
    with pytest.raises(errors.BadInput):
        await perform(profile(plant), [{"do": "goto", "path": "http://elsewhere/"}], tmp_path)


async def test_no_credential_to_type(plant: Plant, tmp_path: Path) -> None:
    """A profile without a password cannot type one."""
    with pytest.raises(errors.BadInput, match="no password"):
        await perform(profile(plant, password=None), LOGIN, tmp_path)


async def test_a_missing_browser(plant: Plant, tmp_path: Path) -> None:
    """One line that says what to install."""
    with pytest.raises(errors.MissingProgram) as error:
        await perform(profile(plant, executable=tmp_path / "chromium"), LOGIN, tmp_path)
    assert "apt-get install chromium" in error.value.one_line


async def test_a_killed_browser_is_transient(plant: Plant, tmp_path: Path) -> None:
    """Chromium dies in the middle of an action."""
    connection = profile(plant)

    async def visit() -> None:
        await perform(
            connection, [LOGIN[0], {"do": "expect", "target": {"text": "never"}}], tmp_path
        )

    visiting = asyncio.create_task(visit())
    while not browsers():
        await asyncio.sleep(0.05)
    await asyncio.sleep(0)
    for process in browsers():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "--type=" not in " ".join(process.cmdline()):
                process.kill()
    with pytest.raises(errors.TransientError):
        await visiting


async def test_cancelling_leaves_no_browser(plant: Plant, tmp_path: Path) -> None:
    """Cancelled in mid-action: the fixture counts what is left."""
    patient = profile(plant, timeout=timedelta(seconds=60))
    actions = [LOGIN[0], {"do": "expect", "target": {"text": "never"}}]
    visiting = asyncio.create_task(perform(patient, actions, tmp_path))
    while not browsers():
        await asyncio.sleep(0.05)
    visiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await visiting
