"""Takes the pictures of reports for the documents, from a generated plant: nothing has to run."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from uuid6 import uuid7

from benchmarks.year import Plant, load
from benchmarks.year_around import load_around
from reports import catalogue
from reports.period import Span, whole
from smartops.audit import anchors, keys, rollup, schema, seal, shipping
from smartops.audit.recording import RunInfo, recorded_run
from smartops.audit.store import Store
from smartops.drivers.browser import find_executable
from smartops.settings import PROJECT_ROOT, get_settings

_ASSETS = PROJECT_ROOT / "docs" / "assets"
_START = datetime(2026, 10, 10, tzinfo=UTC)
_DAY = datetime(2026, 11, 14, tzinfo=UTC)


@dataclass(frozen=True)
class Picture:
    """The top of a report, and the file that it goes to."""

    file: str
    report: str
    span: Span = "day"
    asked: tuple[tuple[str, str], ...] = ()
    height: int = 980
    phone: bool = False


PICTURES = (
    Picture("report.png", "operations"),
    Picture("report-phone.png", "operations", phone=True),
    Picture("report-job.png", "job", "week", (("job", "tank-guard"),)),
    Picture("report-slo.png", "slo", "week"),
    Picture("report-devices.png", "devices", "week"),
    Picture("report-audit.png", "audit", "week"),
    Picture("report-own.png", "readings"),
)


def main() -> None:
    """Make each report of a day or a week of November, and take the top of its page."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SMARTOPS_HOME"] = folder
        os.environ["SMARTOPS_DEPLOYMENTS"] = str(_promises(Path(folder) / "deployments"))
        store = Store(get_settings().store_url)
        schema.migrate(store)
        _seal(store)
        plant = Plant(start=_START, length=timedelta(days=37), density=0.4, faults=4)
        load(store, plant)
        load_around(store, plant)
        rollup.rebuild(store)
        pages = {picture: _page(store, picture) for picture in PICTURES}
        store.close()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_executable(), args=["--no-sandbox"]
        )
        for picture, page in pages.items():
            _take(browser, picture, page)
        browser.close()


def _promises(folder: Path) -> Path:
    """Return the deployments that ship, with promises of a job that does not keep all of them."""
    shutil.copytree(PROJECT_ROOT / "deployments", folder)
    (folder / "slo" / "end-shift.yaml").write_text(
        "job: end-shift\nobjectives:\n"
        "  - {kind: success, target: 0.75}\n  - {kind: latency, target: 0.9, limit: 12s}\n"
    )
    return folder


def _seal(store: Store) -> None:
    """Put something on record that is sealed and published, for the report that verifies it."""
    with recorded_run(RunInfo(uuid7(), "line-check", "run-job")):
        pass
    shipping.ship_all(store, get_settings().journal_dir)
    key = keys.signing_key(get_settings().keys_dir)
    made = list(iter(lambda: seal.seal(store, key), None))
    for place in anchors.anchors_of(get_settings()):
        place.publish(made)


def _page(store: Store, picture: Picture) -> str:
    period = whole(picture.span, _DAY, "UTC")
    kind = catalogue.find(picture.report)
    document = catalogue.build(store, kind, period, dict(picture.asked))
    return catalogue.rendered(document, "html").decode()


def _take(browser: Browser, picture: Picture, html: str) -> None:
    if picture.phone:
        page = browser.new_page(viewport={"width": 390, "height": 780}, color_scheme="dark")
    else:
        size = {"width": 1000, "height": picture.height}
        page = browser.new_page(viewport=size, color_scheme="light")  # type: ignore[arg-type]
    page.set_content(html)
    page.screenshot(path=_ASSETS / picture.file)
    page.close()


if __name__ == "__main__":
    main()
