"""The run form in the Prefect UI, in a real browser: the job language as a form."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from services.stack import Stack
from smartops.drivers import browser
from smartops.jobs.spec import STEP_KINDS
from tests.acceptance.conftest import Cli
from tests.conftest import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.browser]


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
    profile = browser.Connection("ui", stack.ui_url, width=1300, height=2400)
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


async def test_a_job_from_the_form_runs_and_is_on_record(page: Page, cli: Cli) -> None:
    """Clicked together: a name, one waiting step; submitted; its record is that of any job."""
    await page.get_by_label("Name", exact=True).last.fill("from-the-form")
    await page.get_by_role("button", name="Add item").first.click()
    await page.get_by_role("tab", name="Wait", exact=True).click()
    await page.get_by_label("Id", exact=True).fill("pause")
    await page.get_by_label(re.compile(r"^Duration( \(Optional\))?$")).fill("10ms")
    await page.get_by_role("button", name="Submit").click()

    def ended() -> list[dict[str, Any]]:
        runs = json.loads(cli("run", "list", "--json", "--job", "from-the-form").stdout)
        return [run for run in runs if run["state"] != "running"]

    found: Any = wait_for(ended, "the run's end", 60)
    detail = json.loads(cli("run", "show", found[0]["run_id"], "--json").stdout)
    assert (detail["state"], detail["kind"]) == ("completed", "job")
    assert len(detail["revision"]) == 64
    (step,) = detail["steps"]
    assert (step["id"], step["kind"], step["output"]) == ("pause", "wait", {"waited_s": 0.01})
