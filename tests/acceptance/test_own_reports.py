"""Users' own reports in the running system: made by the flow, and deployed with their schedules."""

from __future__ import annotations

import asyncio
import json
import re
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from flows.reporting import report
from services.stack import Stack
from smartops.audit import kept_reports
from smartops.audit.store import Store
from smartops.settings import get_settings
from tests.acceptance.conftest import Cli
from tests.alert_sinks import MailSink
from tests.conftest import PREFECT_LEAVES_SOCKETS

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
OWN: dict[str, Any] = {
    "name": "own-runs",
    "title": "Our runs",
    "description": "How many runs there were.",
    "period": "month",
    "schedule": {"cron": "7 4 1 * *", "timezone": "Europe/Berlin"},
    "formats": ["html", "csv"],
    "attach": ["csv"],
    "mail": ["shift@example.com"],
    "mail_by": "own-reports",
    "template": "{{ all_runs[0].runs }} runs *at most*.",
    "queries": [{"name": "all_runs", "title": "Runs", "sql": "SELECT COUNT(*) AS runs FROM slot"}],
}


@pytest.fixture
def folder(in_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one report of the test's own."""
    place = tmp_path / "deployments" / "reports"
    place.mkdir(parents=True)
    (place / "own-runs.yaml").write_text(json.dumps(OWN))
    monkeypatch.setenv("SMARTOPS_DEPLOYMENTS", str(place.parent))
    get_settings.cache_clear()
    return place


async def artifacts(key: str) -> list[Any]:
    async with get_client() as client:
        return [one for one in await client.read_artifacts() if one.key == key]


async def test_a_report_of_ones_own_is_made_and_mailed(
    in_stack: Stack, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its formats and for its period; to those whom it names; shown beside the run."""
    sink = MailSink(tmp_path)
    await sink.block().save("own-reports", overwrite=True)
    with sink.running():
        made = await report("own-runs")
        assert await artifacts("report-own-runs-page") == []
        monkeypatch.setenv("SMARTOPS_REPORT_URL", "https://plant.example.com/reports/")
        get_settings.cache_clear()
        await report("own-runs", to=[])
    (found,) = sink.mails
    assert found["to"] == "shift@example.com"
    assert found["subject"].startswith("Our runs, ")
    (attached,) = found.iter_attachments()
    assert isinstance(attached, EmailMessage)
    name = str(attached.get_filename())
    assert name.endswith("-month.csv")
    assert set(made["kept"]) == {"html", "csv"}
    store = Store(in_stack.settings.store_url)
    try:
        assert b"Our runs" in kept_reports.content_of(store, made["kept"]["csv"])
    finally:
        store.close()
    words = (await artifacts("report-own-runs"))[0].data
    assert f"smartops report kept --hash {made['kept']['html'][:12]} -o own-runs-" in words
    assert "runs \\*at most\\*." in words
    assert len(await artifacts("report-own-runs-all-runs")) == 2
    (link,) = await artifacts("report-own-runs-page")
    page = name.removesuffix(".csv") + ".html"
    assert f"(https://plant.example.com/reports/own-runs/{page})" in link.data
    assert (in_stack.settings.reports_dir / "own-runs" / page).is_file()


async def deployed(*names: str) -> list[Any]:
    async with get_client() as client:
        found = [await client.read_deployment_by_name(f"report/{name}") for name in names]
    return [
        (
            *(d.description, d.parameters, d.entrypoint, d.work_pool_name),
            *((s.slug, s.schedule.model_dump(include={"cron", "timezone"})) for s in d.schedules),
        )
        for d in found
    ]


async def apply(quick: Cli, **env: str) -> str:
    done = await asyncio.to_thread(quick, "report", "apply", env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_both_ways_to_deploy_give_the_same(
    in_stack: Stack, quick: Cli, tmp_path: Path
) -> None:
    """`prefect deploy --all` and `smartops report apply` make the same of a file."""
    names = ("report-readings", "report-outside-limits")
    before = await deployed(*names)
    said = await apply(quick)
    assert re.search(r"^report-readings +15 5 \* \* \* UTC +[0-9a-f]{12}$", said, re.MULTILINE)
    assert await deployed(*names) == before
    place = tmp_path / "deployments" / "reports"
    place.mkdir(parents=True)
    (place / "own-runs.yaml").write_text(json.dumps(OWN))
    await apply(quick, SMARTOPS_DEPLOYMENTS=str(place.parent))
    (found,) = await deployed("report-own-runs")
    assert found == (
        "How many runs there were.", {"name": "own-runs"}, "flows.reporting.report", "smartops",
        ("regular", {"cron": "7 4 1 * *", "timezone": "Europe/Berlin"}),
    )  # fmt: skip
    async with get_client() as client:
        own = await client.read_deployment_by_name("report/report-own-runs")
        await client.delete_deployment(own.id)
