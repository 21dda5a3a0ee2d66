"""The run form in the Prefect UI, in a real browser: the job language as a form."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import urllib.request
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
from playwright.async_api import TimeoutError as PlaywrightTimeout

from reports.runs import Wanted, get_run, list_runs
from services.stack import Stack
from smartops.audit.store import Store
from smartops.drivers import browser
from smartops.jobs.spec import STEP_KINDS
from tests.acceptance.conftest import Cli
from tests.conftest import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.browser]
PATIENT = timedelta(seconds=30)
"""Prefect's page takes its time while other tests run."""
expect.set_options(timeout=PATIENT.total_seconds() * 1000)


def _deployment(api_url: str, name: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{api_url}/deployments/name/run-job/{name}", timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _deployments(api_url: str) -> dict[str, str]:
    request = urllib.request.Request(
        f"{api_url}/deployments/filter", data=b"{}", headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return {deployment["name"]: deployment["id"] for deployment in found}


@pytest.fixture
async def page(stack: Stack, chromium: Path) -> AsyncIterator[Page]:
    """The form of the deployment run-job."""
    profile = browser.Connection("ui", stack.ui_url, width=2600, height=2400, timeout=PATIENT)
    async with browser.open_page(profile) as opened:
        run_job = _deployments(stack.api_url)["run-job"]
        await opened.goto(f"/v2/deployments/deployment/{run_job}/run")
        await opened.get_by_role("button", name="Add item").first.wait_for()
        yield opened


async def test_there_is_a_tab_for_each_kind(page: Page) -> None:
    """Titled as the kind says, with its sentence, and labels on its fields."""
    await page.get_by_role("button", name="Add item").first.click()
    for model in STEP_KINDS.values():
        tab = page.get_by_role("tab", name=str(model.model_config["title"]), exact=True)
        await tab.click()
        await expect(page.get_by_text((model.__doc__ or "").strip()).first).to_be_visible()
        panel = page.get_by_role("tabpanel", name=str(model.model_config["title"]), exact=True)
        for name, field in model.model_fields.items():
            if name != "kind":
                label = re.compile(rf"^{re.escape(str(field.title))}( \(Optional\))?$")
                await expect(panel.get_by_text(label).first).to_be_visible()


async def fill_in(page: Page, name: str) -> None:
    """Click a job together: a name, and one waiting step."""
    await page.get_by_label("Name", exact=True).last.fill(name)
    await page.get_by_role("button", name="Add item").first.click()
    await page.get_by_role("tab", name="Wait", exact=True).click()
    await page.get_by_label("Id", exact=True).fill("pause")
    await page.get_by_label(re.compile(r"^Duration( \(Optional\))?$")).fill("10ms")


async def press(page: Page, button: str) -> None:
    """Press a button until the page is left: the form takes what was typed a moment later."""
    before = page.url
    for _ in range(10):
        with contextlib.suppress(PlaywrightTimeout):
            if page.url == before:  # and not just left, when it took longer
                await page.get_by_role("button", name=button, exact=True).click(timeout=3000)
            await page.wait_for_url(lambda url: url != before, timeout=3000)
            return
    raise AssertionError(f"{button} does not lead on from {before}")


async def ended(stack: Stack, job: str) -> dict[str, Any]:
    """Return the record of the job's first run that has ended."""
    store = Store(stack.settings.store_url)

    def run() -> Any:
        runs = list_runs(store, Wanted(job=job))
        return next((run.run_id for run in runs if run.state != "running"), None)

    run_id = await asyncio.to_thread(wait_for, run, f"the end of a run of {job}", 180)
    detail = get_run(store, str(run_id)).as_json()
    store.close()
    assert (detail["state"], detail["kind"]) == ("completed", "job"), detail
    assert len(detail["revision"]) == 64
    (step,) = detail["steps"]
    assert (step["id"], step["kind"], step["output"]) == ("pause", "wait", {"waited_s": 0.01})
    return detail


async def test_a_job_from_the_form_runs_and_is_on_record(page: Page, stack: Stack) -> None:
    """Clicked together and submitted; its record is that of any job."""
    await fill_in(page, "from-the-form")
    await press(page, "Submit")
    await ended(stack, "from-the-form")


async def duplicate(page: Page, api_url: str, name: str) -> None:
    """Click a copy of the template together; raise Playwright's TimeoutError when none is made."""
    run_job = _deployments(api_url)["run-job"]
    await page.goto(f"/v2/deployments/deployment/{run_job}")
    await page.locator("button:has(svg.lucide-ellipsis-vertical)").click()
    await page.get_by_role("menuitem", name="Duplicate").click()
    await page.get_by_role("button", name="Add item").first.wait_for()
    await page.wait_for_load_state("networkidle")
    await fill_in(page, "copied")
    await page.get_by_label("Name", exact=True).first.fill(name)
    await page.wait_for_timeout(500)  # the form takes what was typed a moment later
    await page.get_by_role("button", name="Save", exact=True).click()
    await page.wait_for_url(lambda url: "duplicate" not in url, timeout=20_000)
    made = await asyncio.to_thread(_deployment, api_url, name)
    if made["parameters"]["job"]["name"] != "copied":
        raise PlaywrightTimeout("the page has put the template's values back before it saved them")


async def test_a_copy_with_a_schedule(page: Page, cli: Cli, stack: Stack) -> None:
    """The template duplicated, filled in, a schedule added, all by clicking: then it fires."""
    for name in ("a-copy", "another-copy", "a-third-copy"):
        # The page puts the template's own values there once more whenever it loads them again.
        with contextlib.suppress(PlaywrightTimeout):
            await duplicate(page, stack.api_url, name)
            break
    await page.get_by_role("button", name="Schedule", exact=True).click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_role("combobox", name="Interval").click()
    await page.get_by_role("option", name="Seconds").click()
    await dialog.get_by_label("Value").fill("20")
    await dialog.get_by_role("button", name="Save").click()
    await expect(dialog).to_be_hidden()

    def scheduled() -> dict[str, Any] | None:
        made = _deployment(stack.api_url, name)
        return made if made["schedules"] else None

    made = await asyncio.to_thread(wait_for, scheduled, "the schedule", 60)
    assert made["parameters"]["job"]["name"] == "copied"
    assert [given["schedule"]["interval"] for given in made["schedules"]] == [20]
    detail = await ended(stack, "copied")
    assert detail["requested_by"] == "schedule"
    shown = json.loads(cli("schedule", "preview", name, "--count", "2", "--json").stdout)
    assert [fire["schedule"] for fire in shown] == ["every 20s"] * 2
    listed = {job["name"]: job for job in json.loads(cli("job", "list", "--json").stdout)}
    assert listed[name]["schedules"] == ["every 20s"]
    assert listed[name]["revision"] == detail["revision"]
    assert cli("job", "delete", name).returncode == 0
