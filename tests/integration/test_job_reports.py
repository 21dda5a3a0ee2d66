"""The report of a job, of a run, and of what is promised."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from benchmarks.year import Plant, load
from reports import as_data, job, objectives, slo
from reports.document import Document, Timeline
from reports.period import Period
from smartops import errors
from smartops.audit import models, schema
from smartops.audit.store import Store
from smartops.settings import get_settings

START = datetime(2026, 3, 27, tzinfo=UTC)
DAY = Period(START + timedelta(days=2), START + timedelta(days=3), "UTC", "day")
PROMISES = """
job: order-sync
window: 2d
objectives:
  - {kind: success, target: 0.9}
  - {kind: latency, target: 0.8, limit: 4s}
  - {kind: freshness, target: 0.5, limit: 15m}
"""


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Three days of a plant, on SQLite."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('history') / 'audit.sqlite'}")
    schema.migrate(store)
    load(store, Plant(seed=3, start=START, length=timedelta(days=3), density=0.5, faults=20))
    yield store
    store.close()


@pytest.fixture
def promises(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one file of promises."""
    folder = tmp_path / "deployments" / "slo"
    folder.mkdir(parents=True)
    (folder / "order-sync.yaml").write_text(PROMISES)
    monkeypatch.setenv("SMARTOPS_DEPLOYMENTS", str(folder.parent))
    get_settings.cache_clear()
    return folder


def whole(document: Document) -> Any:
    return json.loads(as_data.as_json(document))


def frame(store: Store, table: sa.Table) -> pd.DataFrame:
    with store.reading() as connection:
        return pd.DataFrame([dict(row) for row in connection.execute(sa.select(table)).mappings()])


def test_promises_are_measured_as_by_pandas(history: Store, promises: Path) -> None:
    """Success, latency and freshness over the window; the burn rate over the period."""
    runs = frame(history, models.job_run)
    mine = runs[runs["job"] == "order-sync"].copy()
    mine["took"] = (mine["ended_at"] - mine["started_at"]).dt.total_seconds()
    found = whole(slo.build(history, DAY, {}))["tables"]["objectives"]
    success, latency, freshness = found

    window = mine[mine["started_at"] >= DAY.end - timedelta(days=2)]
    good = window[window["state"] == "completed"]
    assert success["actual"] == pytest.approx(len(good) / len(window))
    assert success["spent"] == pytest.approx((1 - len(good) / len(window)) / 0.1)
    today = mine[mine["started_at"] >= DAY.start]
    bad = (today["state"] != "completed").mean()
    assert success["burn"] == pytest.approx(bad / 0.1)
    assert success["state"] == ("met" if success["spent"] <= 1 else "missed")

    assert latency["actual"] == pytest.approx((good["took"] <= 4).mean())
    assert 0 < latency["actual"] < 1
    assert latency["promise"] == "runs take at most 4s"

    ends = sorted(mine[mine["state"] == "completed"]["ended_at"])
    minutes = pd.date_range(DAY.end - timedelta(days=2), DAY.end, freq="20s", inclusive="left")
    last = pd.Series(ends, index=ends).reindex(minutes, method="ffill")
    stale = ((minutes - pd.DatetimeIndex(last)) > pd.Timedelta(minutes=15)).mean()
    assert freshness["actual"] == pytest.approx(1 - stale, abs=0.01)
    assert 0 < freshness["actual"] < 1


def test_a_job_without_runs_has_broken_no_promise(history: Store, promises: Path) -> None:
    """But it was not fresh either."""
    (promises / "order-sync.yaml").write_text(PROMISES.replace("order-sync", "nothing"))
    success, _, freshness = whole(slo.build(history, DAY, {}))["tables"]["objectives"]
    assert (success["state"], success["actual"], success["spent"]) == ("no runs", None, 0)
    assert (freshness["state"], freshness["actual"]) == ("missed", 0)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("target: 0.9", "target: 99", "objectives.0.target"),
        ("limit: 4s}", "limit: 4s, colour: red}", "objectives.1.colour"),
        ("kind: success", "kind: success, limit: 4s", "success has none"),
        ("job:", "job", "order-sync.yaml"),
    ],
)
def test_a_promise_that_is_none_is_named(promises: Path, old: str, new: str, said: str) -> None:
    """File and field, in one line."""
    (promises / "order-sync.yaml").write_text(PROMISES.replace(old, new))
    with pytest.raises(errors.BadInput, match=said):
        objectives.load_all(promises)


def test_what_ships_is_valid() -> None:
    """The promises in deployments/slo load."""
    assert objectives.load_all(get_settings().deployments / "slo")


def test_a_job_with_its_runs(history: Store) -> None:
    """Its own runs and failures alone, the newest first."""
    document = job.build(history, DAY, {"job": "order-sync"})
    found = whole(document)
    runs = frame(history, models.job_run)
    mine = runs[(runs["job"] == "order-sync") & (runs["started_at"] >= DAY.start)]
    assert found["figures"]["runs"]["value"] == len(mine) == len(found["tables"]["runs"])
    assert found["tables"]["runs"][0]["id"] == str(mine.sort_values("started_at").iloc[-1]["id"])
    assert {line["job"] for line in found["tables"]["failures"]} == {"order-sync"}
    assert document.subject == "order-sync"


def test_a_run_with_its_timeline(history: Store) -> None:
    """Each attempt is a span of its step's row, at its time."""
    steps = frame(history, models.step_run)
    run_id = steps[steps["attempt"] == 2].iloc[0]["run_id"]
    document = job.build(history, DAY, {"run": str(run_id)})
    (chart,) = document.charts()
    assert isinstance(chart, Timeline)
    mine = steps[steps["run_id"] == run_id]
    assert len(chart.spans) == len(mine)
    again = mine[mine["attempt"] == 2].iloc[0]["step"]
    first, second = [span for span in chart.spans if span.row == again][:2]
    assert (first.state, second.text) == ("failed", "2.")
    assert first.end_s < second.start_s
    assert whole(document)["facts"]["run"]["run_id"] == str(run_id)
    assert as_data.as_json(document) == as_data.as_json(
        job.build(history, DAY, {"run": str(run_id)[:30]})
    )


def test_a_job_report_is_about_something(history: Store) -> None:
    """Neither, or both, is refused."""
    for asked in ({}, {"job": "a", "run": "b"}):
        with pytest.raises(errors.BadInput, match="-p job=NAME or -p run=ID"):
            job.build(history, DAY, asked)
