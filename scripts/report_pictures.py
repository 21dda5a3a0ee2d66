"""Takes the pictures of reports for the documents, from a generated plant: nothing has to run."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import sync_playwright

from benchmarks.year import Plant, load
from reports import catalogue
from reports.period import whole
from smartops.audit import schema
from smartops.audit.store import Store
from smartops.drivers.browser import find_executable
from smartops.settings import PROJECT_ROOT

_ASSETS = PROJECT_ROOT / "docs" / "assets"


def main() -> None:
    """Make the operations report of a day, and take the top of it, light and dark."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(f"sqlite:///{Path(folder) / 'audit.sqlite'}")
        schema.migrate(store)
        load(store, Plant(start=start, length=timedelta(days=15), density=0.4, faults=4))
        day = whole("day", start + timedelta(days=13), "UTC")
        document = catalogue.build(store, catalogue.find("operations"), day, {})
        store.close()
    page_text = catalogue.rendered(document, "html").decode()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_executable(), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1000, "height": 980}, color_scheme="light")
        page.set_content(page_text)
        page.screenshot(path=_ASSETS / "report.png")
        phone = browser.new_page(viewport={"width": 390, "height": 780}, color_scheme="dark")
        phone.set_content(page_text)
        phone.screenshot(path=_ASSETS / "report-phone.png")
        browser.close()


if __name__ == "__main__":
    main()
