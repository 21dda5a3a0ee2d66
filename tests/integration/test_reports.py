"""Reports: their numbers against pandas over the raw rows, their bytes, on both databases."""

from __future__ import annotations

import asyncio
import contextvars
import csv
import io
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pandas as pd
import pytest
import sqlalchemy as sa
from uuid6 import uuid7

from benchmarks.year import Plant, load
from reports import as_data, catalogue, operations
from reports.document import Document
from reports.period import Period, between, last, whole
from smartops import errors, lock_waits
from smartops.audit import models, rollup, schema, shipping
from smartops.audit.histogram import ERROR
from smartops.audit.recording import RunInfo, recorded_run
from smartops.audit.store import Store
from smartops.locks import Actor, acting, exclusive
from smartops.settings import get_settings

START = datetime(2026, 3, 27, tzinfo=UTC)
DAY = Period(START + timedelta(days=2), START + timedelta(days=3), "UTC", "day")


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def history(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Four days of a plant whose jobs fail more often than they should. Nobody may change it."""
    folder = tmp_path_factory.mktemp("history")
    url = f"sqlite:///{folder / 'audit.sqlite'}"
    name = f"smartops_reports_{os.getpid()}"
    if request.param == "mysql":
        server = request.getfixturevalue("mysql_server")
        _on(server, f"CREATE DATABASE {name}")
        url = f"{server}/{name}"
    store = Store(url)
    schema.migrate(store)
    load(store, Plant(seed=3, start=START, length=timedelta(days=4), density=0.5, faults=20))
    yield store
    store.close()
    if request.param == "mysql":
        _on(server, f"DROP DATABASE {name}")


def _on(server: str, statement: str) -> None:
    engine = sa.create_engine(f"{server}/", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def own_history(store: Store) -> Store:
    """Two days that a test may change."""
    start = DAY.start - timedelta(hours=12)
    load(store, Plant(seed=3, start=start, length=timedelta(days=2), density=0.2, faults=20))
    return store


def frame(store: Store, table: sa.Table) -> pd.DataFrame:
    with store.reading() as connection:
        rows = connection.execute(sa.select(table)).mappings().all()
    return pd.DataFrame([dict(row) for row in rows])


def of_period(rows: pd.DataFrame, column: str, period: Period) -> pd.DataFrame:
    return rows[(rows[column] >= period.start) & (rows[column] < period.end)]


def lines(document: Document, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(as_data.as_json(document))["tables"][table]
    return found


# --- the operations report --------------------------------------------------------------------


def test_runs_and_durations_are_those_of_pandas(history: Store) -> None:
    """Counts, success, time lost and quantiles per job, for the period and the one before."""
    document = operations.build(history, DAY, {})
    runs = frame(history, models.job_run)
    runs["took"] = (runs["ended_at"] - runs["started_at"]).dt.total_seconds()
    now, before = of_period(runs, "started_at", DAY), of_period(runs, "started_at", DAY.before)
    assert {line["job"] for line in lines(document, "jobs")} == set(now["job"])
    for line in lines(document, "jobs"):
        mine = now[now["job"] == line["job"]]
        good, bad = (
            mine[mine.state == "completed"],
            mine[mine.state.isin(["failed", "needs_decision"])],
        )
        assert (line["runs"], line["completed"], line["bad"]) == (len(mine), len(good), len(bad))
        assert line["success"] == pytest.approx(len(good) / len(mine))
        assert line["lost_s"] == pytest.approx(bad["took"].sum())
    for line in lines(document, "durations"):
        for rows, suffix in ((now, "_s"), (before, "_before_s")):
            took = rows[(rows["job"] == line["job"]) & (rows.state == "completed")]["took"]
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
                assert line[name + suffix] == pytest.approx(took.quantile(share), rel=1e-9)


def test_time_to_repair_and_between_failures(history: Store) -> None:
    """Found once more with pandas: changes from good to bad in the order of the ends."""
    period = Period(START + timedelta(days=1), START + timedelta(days=4))
    document = operations.build(history, period, {})
    runs = frame(history, models.job_run).sort_values("ended_at")
    checked = 0
    for line in lines(document, "jobs"):
        mine = runs[runs["job"] == line["job"]].copy()
        mine["bad"] = mine.state != "completed"
        episode = (mine["bad"] & ~mine["bad"].shift(fill_value=False)).cumsum()
        repairs, down, begun = [], 0.0, 0
        for _, part in mine[episode > 0].groupby(episode[episode > 0]):
            first, good = part.iloc[0], part[~part["bad"]]
            repaired = good.iloc[0] if len(good) else None
            end = period.end if repaired is None else repaired["ended_at"]
            begun += first["started_at"] >= period.start
            if end <= period.start:
                continue
            if repaired is not None:
                repairs.append((end - first["ended_at"]).total_seconds())
            down += (min(end, period.end) - max(first["ended_at"], period.start)).total_seconds()
        if repairs:
            assert line["mttr_s"] == pytest.approx(sum(repairs) / len(repairs))
        if begun:
            assert line["mtbf_s"] == pytest.approx((period.seconds - down) / begun)
            checked += 1
    assert checked >= 2


def test_failures_are_grouped_by_what_they_say(history: Store) -> None:
    """As many attempts as pandas finds, in as many groups as messages without their numbers."""
    document = operations.build(history, DAY, {})
    steps = of_period(frame(history, models.step_run), "started_at", DAY)
    failed = steps[steps["state"].isin(["failed", "unknown_outcome"])].copy()
    jobs = frame(history, models.job_run).set_index("id")["job"]
    failed["job"] = failed["run_id"].map(jobs)
    failed["said"] = failed["error"].str.replace(r"(?<![\w])\d+", "#", regex=True)
    wanted = failed.groupby(["job", "step", "said"]).agg(
        attempts=("id", "count"), runs=("run_id", "nunique")
    )
    found = lines(document, "failures")
    assert len(found) == len(wanted) > 3
    assert sorted((line["attempts"], line["runs"]) for line in found) == sorted(
        map(tuple, wanted.to_numpy().tolist())
    )
    assert found == sorted(found, key=lambda line: -line["attempts"])


def test_flaky_steps_and_the_time_of_their_retries(history: Store) -> None:
    """The same from the rows by pandas, from the rollups, and from both mixed."""
    steps = of_period(frame(history, models.step_run), "started_at", DAY)
    runs = frame(history, models.job_run).set_index("id")
    steps["job"] = steps["run_id"].map(runs["job"])
    steps["whole"] = steps["run_id"].map(runs["state"]) == "completed"
    steps["took"] = (steps["ended_at"] - steps["started_at"]).dt.total_seconds()
    good = steps[steps["state"] == "completed"]
    retried = good[good["attempt"] > 1].groupby(["job", "step"]).size().to_dict()
    lost = steps[steps["whole"] & (steps["state"] == "failed")].groupby("job")["took"].sum()

    def check() -> None:
        document = operations.build(history, DAY, {})
        found = lines(document, "flaky")
        assert {(line["job"], line["step"]): line["passed_on_retry"] for line in found} == retried
        for line in found:
            mine = good[(good["job"] == line["job"]) & (good["step"] == line["step"])]["took"]
            assert line["passed"] == len(mine)
            near = sorted(mine)[int((len(mine) - 1) * 0.95) :][:2]
            assert near[0] * (1 - 2 * ERROR) <= line["p95_s"] <= near[-1] * (1 + 2 * ERROR)
        for line in lines(document, "jobs"):
            assert line["retried_s"] == pytest.approx(lost.get(line["job"], 0.0))

    assert len(retried) > 3
    check()
    rollup.rebuild(history)
    check()


def test_runs_day_by_day(history: Store) -> None:
    """Two weeks up to the period's end, in the days of the zone."""
    berlin = whole("day", START + timedelta(days=2, hours=12), "Europe/Berlin")
    runs = frame(history, models.job_run)
    runs["day"] = runs["started_at"].dt.tz_convert("Europe/Berlin").dt.strftime("%d %b")
    rollup.rebuild(history)
    document = operations.build(history, berlin, {})
    chart = json.loads(as_data.as_json(document))["charts"]["runs-by-day"]
    assert (len(chart["labels"]), chart["labels"][-1]) == (14, "29 Mar")
    good = runs[runs["state"] == "completed"].groupby("day").size()
    found = dict(zip(chart["labels"], chart["series"]["completed"], strict=True))
    for day in ("27 Mar", "28 Mar", "29 Mar"):
        assert found[day] == good[day] > 100


def test_lost_slots_have_their_reasons(history: Store) -> None:
    """Each slot without a run is in a line with its reason."""
    period = Period(START, START + timedelta(days=4))
    document = operations.build(history, period, {})
    slots = frame(history, models.slot)
    lost = slots[slots["outcome"] != "run"]
    assert sum(line["count"] for line in lines(document, "slots")) == len(lost) > 0
    assert {line["reason"] for line in lines(document, "slots")} == set(lost["reason"])


def test_checks_of_data_are_those_of_pandas(history: Store) -> None:
    """Each suite's checks, rows kept apart and what did not hold, now and in the period before."""
    rows = frame(history, models.quality_result)
    worst = {"passed": 0, "warned": 1, "failed": 2}
    rows["rank"] = rows["status"].map(worst)
    checks = rows.groupby(["suite", "run_id", "step_run_id"], as_index=False).agg(
        at=("at", "min"), rank=("rank", "max"), apart=("quarantined", "sum")
    )
    period = Period(DAY.start - timedelta(days=1), DAY.end, "UTC")
    now, before = (of_period(checks, "at", each) for each in (period, period.before))
    document = operations.build(history, period, {})
    found = {line["suite"]: line for line in lines(document, "data_quality")}
    assert set(found) == set(now["suite"]) == {"audit", "readings"}
    for suite, line in found.items():
        mine, old = now[now["suite"] == suite], before[before["suite"] == suite]
        for status, rank in worst.items():
            assert line[status] == (mine["rank"] == rank).sum()
        assert (line["checks"], line["checks_before"]) == (len(mine), len(old))
        assert line["share"] == pytest.approx((mine["rank"] == 0).mean())
        assert line["share_before"] == pytest.approx((old["rank"] == 0).mean())
        assert (line["quarantined"], line["quarantined_before"]) == (
            mine["apart"].sum(),
            old["apart"].sum(),
        )
        last = mine.sort_values("at").iloc[-1]
        assert (worst[line["last"]], line["last_run"]) == (last["rank"], str(last["run_id"]))
    assert found["readings"]["checks"] == 192
    assert found["readings"]["warned"] > 0 < found["readings"]["failed"]
    unmet = rows[rows["step_run_id"].isin(now["step_run_id"]) & (rows["rank"] > 0)]
    own = ["suite", "dataset", "expectation", "subject"]
    wanted = unmet.groupby(own).agg(
        failed=("rank", lambda ranks: (ranks == 2).sum()),
        warned=("rank", lambda ranks: (ranks == 1).sum()),
        bad_rows=("bad_rows", "sum"),
        worst_share=("bad_share", "max"),
        quarantined=("quarantined", "sum"),
    )
    listed = lines(document, "unmet")
    assert len(listed) == len(wanted) > 1
    for line in listed:
        row = wanted.loc[tuple(line[name] for name in own)]
        for name in ("failed", "warned", "bad_rows", "quarantined"):
            assert line[name] == row[name]
        assert line["worst_share"] == pytest.approx(row["worst_share"] / 100)
    order = [(line["failed"], line["warned"], line["bad_rows"]) for line in listed]
    assert order == sorted(order, reverse=True)
    by_name = {figure.name: (figure.value, figure.before) for figure in document.figures}
    assert by_name["checks_failed"] == ((now["rank"] == 2).sum(), (before["rank"] == 2).sum())
    assert by_name["quarantined_rows"] == (now["apart"].sum(), before["apart"].sum())
    assert any("Suite readings failed in" in sentence for sentence in document.summary)


def test_a_check_belongs_to_one_period(store: Store) -> None:
    """To that of its first result; rehearsals to none; a suite that is not checked is told."""
    runs = [_put_check(store, "tank", DAY.end - timedelta(seconds=1), 3)]
    runs.append(_put_check(store, "tank", DAY.start + timedelta(hours=1), 1))
    _put_check(store, "tank", DAY.start + timedelta(hours=2), 1, rehearsal=True)
    _put_check(store, "scale", DAY.start - timedelta(hours=2), 1)
    document = operations.build(store, DAY, {})
    scale, tank = lines(document, "data_quality")
    assert (tank["checks"], tank["failed"], tank["quarantined"]) == (2, 2, 4)
    assert (tank["last_run"], tank["checks_before"]) == (str(runs[0]), 0)
    assert (scale["checks"], scale["checks_before"], scale["last"]) == (0, 1, None)
    assert "Suite scale was not checked, and was in the period before." in document.summary
    after = operations.build(store, Period(DAY.end, DAY.end + timedelta(days=1), "UTC"), {})
    assert [line["checks"] for line in lines(after, "data_quality")] == [0]
    assert lines(after, "unmet") == []


def _put_check(
    store: Store, suite: str, at: datetime, results: int, *, rehearsal: bool = False
) -> UUID:
    """Put a check on record whose results come a second after each other; return its run."""
    run, step = uuid7(), uuid7()
    about = {"job": "j", "kind": "job", "flow": "f", "params": "{}", "message": "", "host": "h"}
    times = {"started_at": at, "ended_at": at, "pid": 1, "state": "failed", "told_by": "own"}
    own = {"run_id": run, "step_run_id": step, "suite": suite, "dataset": "rows", "subject": "a"}
    found = {"status": "failed", "checked_rows": 9, "bad_rows": 1, "sentence": "too low"}
    with store.transaction() as connection:
        connection.execute(
            sa.insert(models.job_run).values(
                id=run, **about, **times, rehearsal=rehearsal, log_lines=0
            )
        )
        for number in range(results):
            moment = at + timedelta(seconds=number)
            what = {"id": uuid7(), "expectation": f"e{number}", "quarantined": 1, "at": moment}
            connection.execute(sa.insert(models.quality_result).values(**own, **found, **what))
    return run


def test_a_rehearsal_does_not_count(own_history: Store) -> None:
    """A report is about what was done to the plant."""
    run = models.job_run
    before = lines(operations.build(own_history, DAY, {}), "jobs")
    with own_history.transaction() as connection:
        connection.execute(sa.update(run).where(run.c.job == "line-check").values(rehearsal=True))
    after = lines(operations.build(own_history, DAY, {}), "jobs")
    assert after == [line for line in before if line["job"] != "line-check"]


# --- bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["html", "csv", "json"])
def test_the_same_data_gives_the_same_bytes(history: Store, form: catalogue.Format) -> None:
    """Made twice, from queries on."""
    kind = catalogue.find("operations")
    first, second = (
        catalogue.rendered(catalogue.build(history, kind, DAY, {}), form) for _ in range(2)
    )
    assert first == second


def test_what_comes_into_another_day_changes_nothing(own_history: Store) -> None:
    """A report of a past period stays as it is."""
    kind = catalogue.find("operations")
    before = catalogue.rendered(catalogue.build(own_history, kind, DAY, {}), "html")
    later = Plant(seed=4, start=DAY.end + timedelta(days=9), length=timedelta(hours=3))
    load(own_history, later)
    assert catalogue.rendered(catalogue.build(own_history, kind, DAY, {}), "html") == before


def test_csv_is_one_table_or_all(history: Store) -> None:
    """One table is plain CSV; all of them stand below each other with their titles."""
    document = operations.build(history, DAY, {})
    one = list(csv.DictReader(io.StringIO(as_data.as_csv(document, "jobs").decode("utf-8-sig"))))
    assert [row["job"] for row in one] == [line["job"] for line in lines(document, "jobs")]
    whole_text = as_data.as_csv(document).decode("utf-8-sig")
    assert all(table.title in whole_text for table in document.tables())
    with pytest.raises(errors.BadInput, match="has no table 'nonsense': jobs, durations"):
        as_data.as_csv(document, "nonsense")


# --- periods ----------------------------------------------------------------------------------


def test_days_weeks_and_months_of_a_zone() -> None:
    """A day of 23 hours, a week from Monday, the month before; a date as an end belongs to it."""
    now = datetime(2026, 3, 30, 5, tzinfo=UTC)
    day = last("day", now, "Europe/Berlin")
    assert (day.seconds, day.label) == (23 * 3600, "Sunday, 29 March 2026")
    assert day.before.seconds == 24 * 3600
    assert last("week", now, "UTC").label == "week 13 of 2026"
    assert last("month", now, "UTC").before.label == "January 2026"
    two = between("2026-03-27", "2026-03-28", "UTC", "day", now)
    assert (two.seconds, two.before.start) == (2 * 86_400, START - timedelta(days=2))
    assert between("2026-03-01", "2026-03-31", "UTC", "day", now) == whole("month", now, "UTC")
    assert [
        part.seconds for part in between("2026-03-27T12:00", "2026-03-28", "UTC", "day", now).days()
    ] == [
        12 * 3600,
        24 * 3600,
    ]


@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("yesterday", None, "--from yesterday: that is no date and no time"),
        (None, "2026-01-01", "--to goes with --from"),
        ("2026-01-02", "2026-01-01", "before it begins"),
    ],
)
def test_a_period_that_is_none_is_refused(start: str | None, end: str | None, said: str) -> None:
    """In one line that says what was given."""
    with pytest.raises(errors.BadInput, match=said):
        between(start, end, "UTC", "day", datetime(2026, 3, 30, tzinfo=UTC))


# --- waits for locks --------------------------------------------------------------------------


async def test_waits_for_locks_are_on_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run waited for, how long, behind whom; also when it gave up."""
    # On a loaded machine what is free is not there at once either.
    monkeypatch.setattr(lock_waits, "LEAST_S", 1.0)
    run = RunInfo(id=uuid7(), job="late", flow="f")
    begun = datetime.now(UTC)

    async def wait(limit_s: float) -> None:
        acting.set(Actor(str(run.id), "late", "read"))
        async with exclusive("wire", timedelta(seconds=limit_s)):
            pass

    with recorded_run(run):
        # Of those who do not hold what is held here.
        contexts = [contextvars.copy_context() for _ in range(3)]
        async with exclusive("wire"):
            with pytest.raises(errors.LockTimeout):
                await asyncio.create_task(wait(1.2), context=contexts[0])
            waiting = asyncio.create_task(wait(30), context=contexts[1])
            await asyncio.sleep(2)  # as long as it is to wait
        await waiting
        await asyncio.create_task(wait(30), context=contexts[2])
    shipping.ship_all(store, get_settings().journal_dir)
    period = Period(begun, datetime.now(UTC) + timedelta(seconds=1))
    (line,) = lines(operations.build(store, period, {}), "locks")
    assert (line["resource"], line["job"], line["step"]) == ("wire", "late", "read")
    assert (line["waits"], line["gave_up"]) == (2, 1)
    assert line["holder"] == f"process {os.getpid()}"
    assert 0.7 < line["total_s"] < 30 > line["longest_s"] > 0.4
