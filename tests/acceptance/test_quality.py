"""Checks of data as a step of a job and as a flow, in the running system."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prefect.client.orchestration import get_client

from flows.quality import data_quality
from reports.runs import Wanted, list_runs
from services.stack import Stack
from smartops.audit import models
from smartops.audit.store import Store
from smartops.errors import ExpectationFailed
from smartops.settings import get_settings
from tests.acceptance.conftest import Run, ship
from tests.conftest import PREFECT_LEAVES_SOCKETS, ROOT

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
BETWEEN = {"expect": "column_values_to_be_between", "column": "value", "min_value": 0}
SUITES: dict[str, Any] = {
    "levels": {"expectations": [{**BETWEEN, "warn": 0, "fail": 50, "message": "No such level"}]},
    "strict": {"expectations": [{**BETWEEN, "message": "No such level"}]},
    "period": {
        "query": "SELECT :since AS since, :until AS until",
        "expectations": [
            {
                "expect": "column_pair_values_to_be_equal",
                "column_A": "since",
                "column_B": "until",
                "fail": "never",
            }
        ],
    },
    "never": {
        "query": "SELECT 1 AS number",
        "expectations": [{"expect": "table_row_count_to_equal", "value": 2}],
    },
}


@pytest.fixture
def folder(in_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Suites of the test's own, beside those that ship."""
    place = tmp_path / "deployments" / "quality"
    shutil.copytree(ROOT / "deployments" / "quality", place)
    for name, dataset in SUITES.items():
        text = {"name": name, "description": "A test.", "datasets": [{"name": "rows", **dataset}]}
        (place / f"{name}.yaml").write_text(json.dumps(text))
    monkeypatch.setenv("SMARTOPS_DEPLOYMENTS", str(place.parent))
    get_settings.cache_clear()
    return place


def found_by(stack: Stack, run_id: Any) -> list[Any]:
    store = Store(stack.settings.store_url)
    table = models.quality_result
    query = sa.select(table).where(table.c.run_id == run_id).order_by(table.c.id)
    try:
        with store.reading() as connection:
            return list(connection.execute(query))
    finally:
        store.close()


def text_of(path: str) -> str:
    return Path(path).read_text()


def rows_in(path: str) -> list[Any]:
    return [json.loads(line) for line in text_of(path).splitlines()]


async def test_each_option_of_a_check_of_data(run: Run, in_stack: Stack, folder: Path) -> None:
    """The suite decides, bad rows are kept apart with the reason, the others go on."""
    rows = "[{tag: a, value: 5}, {tag: b, value: -1}, {tag: c, value: 7}]"
    check = "kind: check.quality, timeout: 5m"
    detail = await run(
        f"""
name: quality-options
steps:
  - {{id: levels, {check}, suite: levels, rows: {rows}}}
  - {{id: strict, {check}, suite: strict, rows: "{{{{ steps.levels.good_rows }}}}"}}
  - {{id: fails, {check}, suite: strict, rows: {rows}, on_failure: continue}}
  - {{id: period, {check}, suite: period, look_back: 90m}}
"""
    )
    assert detail.run.state == "completed", detail.run.message
    found = {step.id: step for step in detail.steps}
    output = found["levels"].output
    assert (output["status"], output["rows"], output["quarantined"]) == ("warned", 3, 1)
    assert output["good_rows"] == [{"tag": "a", "value": 5}, {"tag": "c", "value": 7}]
    (kept,) = rows_in(output["quarantine"])
    assert (kept["row"], kept["reasons"]) == ({"tag": "b", "value": -1}, ["No such level"])
    assert "No such level" in text_of(output["page"])
    assert found["strict"].output["status"] == "passed"
    assert found["strict"].output["quarantine"] is None
    assert found["fails"].error_class == "ExpectationFailed"
    assert "No such level" in (found["fails"].error or "")
    (looked,) = rows_in(found["period"].output["quarantine"])
    since, until = (datetime.fromisoformat(looked["row"][name]) for name in ("since", "until"))
    assert until - since == timedelta(minutes=90)
    statuses = [row.status for row in found_by(in_stack, detail.run.run_id)]
    assert sorted(statuses) == ["failed", "passed", "passed", "warned"]
    async with get_client() as client:
        shown = await client.read_artifacts()
    assert {"quality-levels", "quality-strict"} <= {artifact.key for artifact in shown}


async def test_the_flow_looks_at_every_suite(in_stack: Stack, folder: Path) -> None:
    """One that fails does not keep the others from being looked at; the run fails at its end."""
    assert await data_quality(["period"], days=3) == {"period": "passed"}
    with pytest.raises(ExpectationFailed, match=r"suite 'never': .*: not as expected: found 1"):
        await data_quality(["never", "period"])
    store = Store(in_stack.settings.store_url)
    try:
        ship(store, in_stack)
        runs = list_runs(store, Wanted(job="data-quality"), limit=2)
    finally:
        store.close()
    assert [run.state for run in runs] == ["failed", "completed"]
    assert [row.suite for row in found_by(in_stack, runs[0].run_id)] == ["never", "period"]
