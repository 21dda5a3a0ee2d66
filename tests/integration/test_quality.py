"""Checks of data, with the library itself: what it finds, what it may not do, and on what."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import sqlalchemy as sa
from uuid6 import uuid7

from reports import own_query
from reports.own_query import Period
from reports.quality import checking, history, judging
from reports.quality import suite as suites
from reports.quality.expectations import KINDS
from reports.quality.results import Found
from smartops.audit import models, replay, shipping
from smartops.audit.events import Event
from smartops.audit.journal import get_journal
from smartops.audit.migrations import guarding
from smartops.audit.recording import RunInfo, StepRecord, recorded_run
from smartops.audit.store import Store
from smartops.errors import BadInput, FunctionFailed, StepTimeout
from smartops.settings import get_settings
from smartops.vocabulary import Effect
from tests.conftest import ROOT

Use = Callable[[Store], None]
NOW = datetime.now(UTC)
ROWS: list[dict[str, Any]] = [
    {"a": 1, "b": 1, "t": "x1", "j": "{}", "d": "2026-01-01", "n": None, "k": "p"},
    {"a": 2, "b": 2, "t": "x2", "j": "[]", "d": "2026-01-02", "n": None, "k": "p"},
    {"a": 9, "b": 3, "t": "zzz", "j": "{", "d": "never", "n": 1, "k": "q"},
]
"""The third row meets none of the expectations below that are about rows."""
_ONE = {"column": "a"}
_PAIR = {"column_A": "a", "column_B": "b"}
_LIST = {"column_list": ["a", "b"]}
MET: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # what holds of the first two rows alone; what holds of no or not of all rows
    "column_values_to_not_be_null": ({"column": "a"}, {"column": "n"}),
    "column_values_to_be_null": ({"column": "n", "where": {"k": "p"}}, {"column": "n"}),
    "column_values_to_be_between": ({**_ONE, "max_value": 9}, {**_ONE, "max_value": 2}),
    "column_values_to_be_in_set": (
        {**_ONE, "value_set": [1, 2, 9]},
        {**_ONE, "value_set": [1, 2]},
    ),
    "column_values_to_not_be_in_set": ({**_ONE, "value_set": [3]}, {**_ONE, "value_set": [9]}),
    "column_values_to_be_unique": (_ONE, {"column": "k"}),
    "column_values_to_be_increasing": (_ONE, {"column": "a", "where": {"k": "gone"}}),
    "column_values_to_be_decreasing": ({"column": "b", "where": {"a": [1]}}, _ONE),
    "column_values_to_match_regex": (
        {"column": "t", "regex": "^[xz]"},
        {"column": "t", "regex": "^x"},
    ),
    "column_values_to_not_match_regex": (
        {"column": "t", "regex": "y"},
        {"column": "t", "regex": "z"},
    ),
    "column_values_to_match_regex_list": (
        {"column": "t", "regex_list": ["x", "z"], "match_on": "any"},
        {"column": "t", "regex_list": ["x", "1|2"], "match_on": "all"},
    ),
    "column_values_to_not_match_regex_list": (
        {"column": "t", "regex_list": ["y"]},
        {"column": "t", "regex_list": ["y", "z"]},
    ),
    "column_values_to_match_strftime_format": (
        {"column": "d", "strftime_format": "%Y-%m-%d", "where": {"k": "p"}},
        {"column": "d", "strftime_format": "%Y-%m-%d"},
    ),
    "column_values_to_be_dateutil_parseable": (
        {"column": "d", "where": {"k": "p"}},
        {"column": "d"},
    ),
    "column_values_to_be_json_parseable": ({"column": "j", "where": {"k": "p"}}, {"column": "j"}),
    "column_values_to_match_json_schema": (
        {"column": "j", "json_schema": {"type": ["object", "array"]}, "where": {"k": "p"}},
        {"column": "j", "json_schema": {"type": "object"}, "where": {"k": "p"}},
    ),
    "column_value_lengths_to_be_between": (
        {"column": "t", "min_value": 2},
        {"column": "t", "max_value": 2},
    ),
    "column_value_lengths_to_equal": ({"column": "k", "value": 1}, {"column": "t", "value": 2}),
    "column_value_z_scores_to_be_less_than": (
        {**_ONE, "threshold": 2, "double_sided": True},
        {**_ONE, "threshold": 1, "double_sided": True},
    ),
    "column_pair_values_a_to_be_greater_than_b": ({**_PAIR, "or_equal": True}, _PAIR),
    "column_pair_values_to_be_equal": ({**_PAIR, "where": {"k": "p"}}, _PAIR),
    "column_pair_values_to_be_in_set": (
        {**_PAIR, "value_pairs_set": [[1, 1], [2, 2], [9, 3]]},
        {**_PAIR, "value_pairs_set": [[1, 1], [2, 2]]},
    ),
    "compound_columns_to_be_unique": (_LIST, {"column_list": ["k", "k"]}),
    "select_column_values_to_be_unique_within_record": ({**_LIST, "where": {"k": "q"}}, _LIST),
    "multicolumn_sum_to_equal": (
        {**_LIST, "sum_total": 2, "where": {"a": 1}},
        {**_LIST, "sum_total": 2},
    ),
    "multicolumn_values_to_be_equal": ({**_LIST, "where": {"k": "p"}}, _LIST),
    "column_min_to_be_between": ({**_ONE, "min_value": 1}, {**_ONE, "min_value": 2}),
    "column_max_to_be_between": ({**_ONE, "max_value": 9}, {**_ONE, "max_value": 8}),
    "column_mean_to_be_between": ({**_ONE, "max_value": 4}, {**_ONE, "max_value": 3}),
    "column_median_to_be_between": ({**_ONE, "max_value": 2}, {**_ONE, "max_value": 1}),
    "column_stdev_to_be_between": ({**_ONE, "max_value": 5}, {**_ONE, "max_value": 1}),
    "column_sum_to_be_between": ({**_ONE, "max_value": 12}, {**_ONE, "max_value": 11}),
    "column_quantile_values_to_be_between": (
        {**_ONE, "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[1, 3]]}},
        {**_ONE, "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[3, 4]]}},
    ),
    "column_unique_value_count_to_be_between": (
        {**_ONE, "min_value": 3},
        {"column": "k", "min_value": 3},
    ),
    "column_proportion_of_unique_values_to_be_between": (
        {**_ONE, "min_value": 1},
        {"column": "k", "min_value": 1},
    ),
    "column_proportion_of_non_null_values_to_be_between": (
        {**_ONE, "min_value": 1},
        {"column": "n", "min_value": 1},
    ),
    "column_distinct_values_to_be_in_set": (
        {"column": "k", "value_set": ["p", "q", "r"]},
        {"column": "k", "value_set": ["p"]},
    ),
    "column_distinct_values_to_contain_set": (
        {"column": "k", "value_set": ["p"]},
        {"column": "k", "value_set": ["r"]},
    ),
    "column_distinct_values_to_equal_set": (
        {"column": "k", "value_set": ["p", "q"]},
        {"column": "k", "value_set": ["p"]},
    ),
    "column_most_common_value_to_be_in_set": (
        {"column": "k", "value_set": ["p"]},
        {"column": "k", "value_set": ["q"]},
    ),
    "column_to_exist": ({"column": "a"}, {"column": "zz"}),
    "table_row_count_to_be_between": ({"min_value": 3}, {"min_value": 4}),
    "table_row_count_to_equal": ({"value": 3}, {"value": 4}),
    "table_columns_to_match_set": (
        {"column_set": ["a"], "exact_match": False},
        {"column_set": ["a"]},
    ),
    "table_columns_to_match_ordered_list": (
        {"column_list": ["a", "b", "t", "j", "d", "n", "k"]},
        {"column_list": ["b", "a"]},
    ),
}


@pytest.fixture
def folder(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Deployments of the test's own, with the suites that ship."""
    shutil.copytree(ROOT / "deployments" / "quality", tmp_path / "deployments" / "quality")
    monkeypatch.setenv("SMARTOPS_DEPLOYMENTS", str(tmp_path / "deployments"))
    get_settings.cache_clear()
    return tmp_path / "deployments" / "quality"


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Let processes that this one starts use the test's own store."""

    def point(store: Store) -> None:
        url = store.url.render_as_string(hide_password=False)
        monkeypatch.setenv("SMARTOPS_DATABASE_URL", url)
        get_settings.cache_clear()

    return point


def write(folder: Path, name: str, *datasets: dict[str, Any]) -> None:
    text = {"name": name, "description": "A test.", "datasets": list(datasets)}
    (folder / f"{name}.yaml").write_text(json.dumps(text))


def check(suite: str, rows: Any = None, **options: Any) -> Found:
    return asyncio.run(checking.check(suite, rows, **{"look_back": timedelta(days=2), **options}))


def test_every_expectation_finds_what_it_is_for(folder: Path) -> None:
    """Each, met and not met; those about rows name the rows, and those are kept apart."""
    assert set(MET) == set(KINDS)
    met = [{"expect": name, **good} for name, (good, _) in MET.items()]
    unmet = [{"expect": name, **bad} for name, (_, bad) in MET.items()]
    write(folder, "all", {"name": "rows", "expectations": [*met, *unmet]})
    found = check("all", ROWS)
    half = len(met)
    assert [r.sentence for r in found.results[:half] if r.status != "passed"] == []
    vacuous = "column_values_to_be_increasing"  # of no rows at all everything holds
    unmet_names = [r.expectation for r in found.results[half:] if r.status == "failed"]
    assert unmet_names == [name for name in MET if name != vacuous]
    for result in found.results[half:]:
        of_rows = KINDS[result.expectation].of_rows and result.expectation != vacuous
        assert (result.bad_rows > 0) is of_rows, result
        assert "could not be looked at" not in result.sentence
    assert 2 in {row.number for row in found.bad_rows}
    kept = next(row for row in found.bad_rows if row.number == 2)
    assert kept.row == ROWS[2]
    assert any("max_value 2" in reason for reason in kept.reasons)


def test_thresholds_times_and_wrong_suites(folder: Path) -> None:
    """A share of bad rows warns; times compare as times; what cannot be looked at is a failure."""
    early, late = "2026-01-01T10:00:00+02:00", "2026-01-01T09:00:00Z"
    rows = [{"v": n, "from": early, "to": late} for n in range(20)]
    order = {
        "expect": "column_pair_values_a_to_be_greater_than_b",
        "column_A": "to",
        "column_B": "from",
    }
    limits = {"expect": "column_values_to_be_between", "column": "v", "max_value": 17}
    kept = {**limits, "warn": 5, "fail": 15, "message": "Too much"}
    left = {**limits, "max_value": 0, "fail": "never", "quarantine": False}
    gone = {**limits, "column": "w"}
    nowhere = {**limits, "where": {"w": 1}}
    more = {**limits, "max_value": 16, "fail": "never", "message": "Rather much"}
    expected = [order, kept, left, gone, nowhere, more]
    write(folder, "some", {"name": "rows", "expectations": expected})
    found = check("some", rows)
    states = [result.status for result in found.results]
    assert states == ["passed", "warned", "passed", "failed", "failed", "passed"]
    # Each row that is kept apart is counted once.
    assert [result.quarantined for result in found.results] == [0, 2, 0, 0, 0, 1]
    assert found.results[1].bad_share == 10.0
    assert found.results[1].sentence.startswith("Too much: v: column values to be between")
    assert [(row.number, row.reasons) for row in found.bad_rows] == [
        (17, ["Rather much"]),
        (18, ["Too much", "Rather much"]),
        (19, ["Too much", "Rather much"]),
    ]
    assert 'column "w"' in found.results[3].sentence
    assert "no column 'w'" in found.results[4].sentence
    odd = {"name": "rows", "expectations": [{**order, "ignore_row_if": "whenever"}]}
    write(folder, "odd", odd)
    with pytest.raises(BadInput, match="suite 'odd': column_pair_values_a_to_be_greater_than_b: "):
        check("odd", rows)
    for suite, given, said in (
        ("other", rows, "there is no suite 'other'"),
        ("some", None, "needs rows"),
        ("audit", rows, "give no rows"),
    ):
        with pytest.raises(BadInput, match=said):
            check(suite, given)


def test_no_rows_have_the_columns_that_are_expected() -> None:
    """So that an empty list of rows is not a column that is missing."""
    given = {"expect": "column_values_to_be_unique", "column": "a", "where": {"b": 1}}
    dataset = suites.Dataset.model_validate({"name": "rows", "expectations": [given]})
    assert list(judging.frame([], [], dataset).columns) == ["a", "b"]


# --- the record -------------------------------------------------------------------------------


def add(store: Store, table: sa.Table, **values: Any) -> None:
    with store.transaction() as connection:
        connection.execute(sa.insert(table).values(**values))


def add_run(store: Store, job: str, start_h: float, end_h: float | None, **fields: Any) -> UUID:
    """Add a run that began and ended some hours ago."""
    run = uuid7()
    row = {
        "id": run,
        "job": job,
        "kind": "flow",
        "flow": "run-job",
        "params": "{}",
        "state": "running" if end_h is None else "completed",
        "message": "",
        "started_at": NOW - timedelta(hours=start_h),
        "ended_at": None if end_h is None else NOW - timedelta(hours=end_h),
        "host": "h",
        "pid": 1,
        **fields,
    }
    add(store, models.job_run, **row)
    return run


def recorded(store: Store) -> UUID:
    """Put a whole run on record, with a step and a line of its log; return the run."""
    info = RunInfo(uuid7(), "sound", "run-job")
    with recorded_run(info):
        record = StepRecord(info, step="s", kind="wait", effect=Effect.READ, attempt=1, inputs={})
        record.completed({})
        get_journal().append(
            Event("log", info.id, {"level": 20, "logger": "l", "message": "one"}),
            Event("log", info.id, {"level": 20, "logger": "l", "message": "two"}),
        )
    shipping.ship_all(store, get_settings().journal_dir)
    return info.id


def test_the_suite_for_the_record_finds_each_fault(store: Store, folder: Path, use: Use) -> None:
    """No end, an end before the beginning, overlaps, gaps: each is found, and nothing else."""
    use(store)
    run = recorded(store)
    if not store.is_server:  # once is enough: it takes seconds
        assert check("audit").status == "passed"
    wanted = {"ends": {str(add_run(store, "lost", 30, None))}}
    exited = add_run(store, "exited", 2, None)
    claim = {"claimed_at": NOW - timedelta(hours=2), "exited_at": NOW - timedelta(hours=1)}
    who = {"worker": "w", "host": "h", "process": uuid7(), "home": uuid7()}
    add(store, models.run_process, id=uuid7(), run_id=exited, **who, **claim)
    wanted["ends"].add(str(exited))
    add_run(store, "young", 2, None)
    add_run(store, "waits", 40, None, state="suspended")
    wanted["runs"] = {str(add_run(store, "backwards", 2, 3))}
    for job, spec in (("skips", '{"overlap":"skip"}'), ("allows", '{"overlap":"allow"}')):
        add(
            store,
            models.job_revision,
            revision=job,
            job=job,
            spec=spec,
            first_seen_at=NOW,
        )
        of = {"requested_by": "schedule", "deployment": job, "revision": job}
        for start_h, end_h in ((10.0, 5.0), (9.0, 8.5), (7.0, 6.0), (4.0, 3.0)):
            overlapping = add_run(store, job, start_h, end_h, **of)
            if job == "skips" and end_h > 5:
                wanted.setdefault("overlaps", set()).add(str(overlapping))
    stream = break_the_record(store, run)
    found = check("audit")
    kept = {(bad.dataset, str(bad.row.get("run"))) for bad in found.bad_rows}
    wanted |= {"steps": {str(run)}, "lines": {str(run)}, "sequences": {"None"}}
    assert kept == {(name, key) for name, keys in wanted.items() for key in keys}
    assert {r.dataset for r in found.results if r.status == "failed"} == set(wanted)
    (gap,) = [bad.row for bad in found.bad_rows if bad.dataset == "sequences"]
    assert (gap["stream"], gap["last_number"] - gap["events"]) == (str(stream), 1)


def break_the_record(store: Store, run: UUID) -> UUID:
    """Take an event and a line of a run away, and let its step end before it began."""
    line, event, step = models.log_line, models.event, models.step_run
    with store.transaction() as connection:
        guarding.unguard(connection, "event")
        place = sa.select(event.c.stream, event.c.seq).where(
            event.c.run_id == run, event.c.type == "log"
        )
        stream, seq = connection.execute(place.limit(1)).one()
        gone = (event.c.stream == stream) & (event.c.seq == seq)
        connection.execute(sa.delete(event).where(gone))
        connection.execute(sa.delete(line).where(line.c.run_id == run, line.c.number == 1))
        early = NOW - timedelta(hours=1)
        connection.execute(sa.update(step).where(step.c.run_id == run).values(ended_at=early))
        guarding.guard(connection)
    return UUID(str(stream))


def test_a_query_can_only_read(store: Store, use: Use) -> None:
    """The database itself refuses a change, a long query is ended, and values are plain."""
    use(store)
    run = add_run(store, "one", 2, 1)
    period = Period(NOW - timedelta(days=1), NOW)

    def rows(query: str, most: int = 10, limit_s: float = 20) -> Any:
        limit = timedelta(seconds=limit_s)
        return own_query.rows(store, query, period, most=most, limit=limit)

    text = "SELECT id, job, started_at, 1.5 AS n FROM job_run WHERE started_at >= :since"
    columns, (row,) = rows(text)
    assert columns == ["id", "job", "started_at", "n"]
    assert row == {"id": str(run), "job": "one", "started_at": NOW - timedelta(hours=2), "n": 1.5}
    assert rows("SELECT id FROM job_run WHERE started_at >= :until")[1] == []
    for change in ("DELETE FROM job_run", "UPDATE job_run SET job = 'x'", "DROP TABLE seal"):
        with pytest.raises(BadInput, match="the query cannot be answered"):
            rows(change)
    assert rows(text)[1] == [row]
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) "
    with pytest.raises(BadInput, match="more than 10 rows"):
        rows(numbers.format(100) + "SELECT i FROM n")
    with pytest.raises(BadInput, match="two columns of the same name"):
        rows("SELECT 1 AS a, 2 AS a")
    with pytest.raises(BadInput, match="cannot be answered"):
        rows("SELECT nothing FROM nowhere")
    if store.is_server:
        with pytest.raises(BadInput, match="the query took longer than 1s"):
            rows("SELECT SLEEP(60) FROM job_run", limit_s=1)


def test_what_checks_found_is_on_record(store: Store, home: Path, tmp_path: Path) -> None:
    """A row for each expectation, through the journal; and pages that are made of them."""
    info = RunInfo(uuid7(), "data-quality", "data-quality")
    with recorded_run(info):
        record = StepRecord(
            info, step="s", kind="check.quality", effect=Effect.READ, attempt=1, inputs={}
        )
        for number, status in enumerate(("passed", "failed")):
            record.quality(
                suite="audit",
                dataset="runs",
                expectation="column_values_to_not_be_null",
                subject="ended_at",
                status=status,
                checked_rows=4,
                bad_rows=number,
                bad_share=25.0 * number,
                warn_above=None,
                fail_above=0.0,
                sentence=f"{number} of 4",
                quarantined=number,
            )
        record.completed({})
    shipping.ship_all(store, get_settings().journal_dir)
    (kept,) = history.checks(store, NOW - timedelta(hours=1))
    assert (kept.suite, kept.run_id, kept.step_run_id) == ("audit", info.id, record.id)
    assert (kept.status, [r.bad_share for r in kept.results]) == ("failed", [0.0, 25.0])
    assert [result.quarantined for result in kept.results] == [0, 1]
    assert replay.first_difference(store) is None
    written = history.write_pages(store, tmp_path / "docs", datetime.now(UTC), 30)
    assert [path.name for path in written] == ["index.html", "audit.html"]
    index, page = (path.read_text() for path in written)
    assert '<a href="audit.html">audit</a>' in index
    assert "1 failed" in index
    assert "1 of 4" in page


# --- the process ------------------------------------------------------------------------------

SPY = """
import os, sys
seen = []
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"):
        seen.append((event, str(arguments[1:])))
    if event == "import" and arguments[0] == "great_expectations":
        seen.append(("analytics", os.environ.get("GX_ANALYTICS_ENABLED")))
sys.addaudithook(hook)
from reports.quality import child
child.main()
import great_expectations
sys.stderr.write(repr(sorted(set(seen))))
"""


def asked(folder: Path) -> str:
    write(folder, "one", {"name": "rows", "expectations": [{"expect": "column_to_exist", **_ONE}]})
    found = suites.load(folder / "one.yaml").model_dump(mode="json")
    return json.dumps({"suite": found, "revision": "", "rows": ROWS, "limit_s": 300})


def test_it_talks_to_nobody(folder: Path, tmp_path: Path) -> None:
    """Not even once does the library try to; analytics are off before it is imported."""
    place = tmp_path / "found.json"
    command = [sys.executable, "-c", SPY, str(place)]
    alone = ["unshare", "--map-root-user", "--net"]
    if shutil.which("unshare") and not subprocess.run([*alone, "true"], check=False).returncode:
        command = [*alone, *command]  # a network with nothing in it, where the kernel gives one
    env = {**os.environ, "GX_ANALYTICS_ENABLED": "true"}
    done = subprocess.run(
        command, input=asked(folder), env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr.endswith("[('analytics', 'false')]"), done.stderr
    assert json.loads(place.read_text())["found"]["results"][0]["status"] == "passed"


def test_the_process_is_shut_off() -> None:
    """From then on a connection is refused within the process, also one to this machine."""
    code = (
        "import socket\nfrom reports.quality.child import shut_off\nshut_off()\n"
        "for call in (socket.create_connection, lambda a: socket.getaddrinfo(*a)):\n"
        "    try: call(('localhost', 9))\n"
        "    except PermissionError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("a check of data talks to nobody") == 2


def test_a_check_ends_at_its_limit_and_with_who_asked(folder: Path) -> None:
    """Its process is gone at the limit, when it is cancelled, and its end is told when it dies."""
    asked(folder)
    with pytest.raises(StepTimeout, match=r"'one' was not looked at within 0\.5 s"):
        check("one", ROWS, limit=timedelta(seconds=0.5))

    def process() -> psutil.Process | None:
        found = psutil.Process().children(recursive=True)
        own = [p for p in found if "reports.quality.child" in " ".join(p.cmdline())]
        return own[0] if own else None

    async def begun() -> tuple[asyncio.Task[Found], psutil.Process]:
        task = asyncio.create_task(checking.check("one", ROWS, look_back=timedelta(days=2)))
        while (running := process()) is None:
            await asyncio.sleep(0.01)
        return task, running

    async def cancelled() -> None:
        task, running = await begun()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not running.is_running()

    async def killed() -> None:
        task, running = await begun()
        running.kill()
        with pytest.raises(FunctionFailed, match="ended its process"):
            await task

    asyncio.run(cancelled())
    asyncio.run(killed())
