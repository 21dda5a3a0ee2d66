"""Takes the pictures of the documents from a running system: ``make up`` first."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from services import stack
from smartops.drivers import browser
from smartops.settings import PROJECT_ROOT


async def main() -> None:
    """Run line-check, and take the run's page in the Prefect UI."""
    running = stack.find()
    if running is None or not running.alive():
        sys.exit("nothing is running; call `make up` first")
    done = subprocess.run(
        [sys.executable, "-m", "smartops", "job", "run", "line-check", "--wait", "--json"],
        capture_output=True,
        check=True,
    )
    run_id = json.loads(done.stdout)["run_id"]
    profile = browser.Connection("ui", running.ui_url, width=1360, height=1000)
    async with browser.open_page(profile) as page:
        await page.goto(f"/v2/runs/flow-run/{run_id}?tab=Logs")
        await page.get_by_text("speed_setpoint", exact=False).last.wait_for()
        await page.wait_for_timeout(2000)  # the graph is drawn, and has no text to wait for
        await page.screenshot(path=PROJECT_ROOT / "docs" / "assets" / "run.png")


if __name__ == "__main__":
    asyncio.run(main())
