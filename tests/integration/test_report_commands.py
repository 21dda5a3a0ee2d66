"""What people ask of reports and of the sums that they read, by command."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks.year import Plant, load
from smartops.audit import kept_reports, schema, shipping
from smartops.audit.report_tables import rollup_run
from smartops.audit.store import Store
from smartops.cli.app import main
from smartops.settings import get_settings
from tests.conftest import ROOT

START = datetime(2026, 3, 27, tzinfo=UTC)
Call = Callable[..., tuple[int, bytes, str]]
DAY = ("--from", "2026-03-27")


@pytest.fixture
def store(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of the command's own home, with a day of a plant; its folder is the test's."""
    home.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    store = Store(get_settings().store_url)
    schema.migrate(store)
    load(store, Plant(start=START, length=timedelta(days=1), density=0.1, faults=10))
    return store


@pytest.fixture
def call(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Call:
    """The command within this process."""

    def run(*arguments: str) -> tuple[int, bytes, str]:
        monkeypatch.setattr(sys, "argv", ["smartops", *arguments])
        capsysbinary.readouterr()
        code = main()
        printed = capsysbinary.readouterr()
        return code, printed.out, printed.err.decode()

    return run


def test_a_report_is_written_in_each_format(call: Call, tmp_path: Path) -> None:
    """To a file named by its day, to one that is named, and to stdout; the same bytes again."""
    code, said, _ = call("report", "operations", *DAY)
    page = tmp_path / "operations-2026-03-27.html"
    assert (code, said.decode()) == (0, f"{page.name}: {page.stat().st_size} bytes\n")
    assert b"<h1>Operations report" in page.read_bytes()
    once = call("report", "operations", *DAY, "--format", "json", "-o", "-")[1]
    assert json.loads(once)["from"] == START.isoformat()
    assert call("report", "operations", *DAY, "--format", "json", "-o", "-")[1] == once
    table = call("report", "operations", *DAY, "--format", "csv", "--table", "jobs", "-o", "-")[1]
    rows = list(csv.DictReader(io.StringIO(table.decode("utf-8-sig"))))
    assert {row["job"] for row in rows} >= {"line-check", "tank-guard"}
    week = call("report", "operations", *DAY, "--last", "week", "--format", "json", "-o", "-")[1]
    assert json.loads(week)["to"] == "2026-03-30T00:00:00+00:00"
    until = call("report", "operations", *DAY, "--to", "2026-03-28", "--format", "json", "-o", "-")
    assert json.loads(until[1])["to"] == "2026-03-29T00:00:00+00:00"
    about = ("-p", "job=line-check", "--format", "json", "-o", "-")
    assert json.loads(call("report", "job", *DAY, *about)[1])["subject"] == "line-check"


WRONG = [
    (("nothing",), "there is no report 'nothing'"),
    (("operations", "--format", "doc"), "--format doc: it is one of html, pdf, csv, json"),
    (("operations", "--table", "jobs"), "--table goes with --format csv"),
    (("operations", "--format", "csv", "--table", "x"), "has no table 'x'"),
    (("operations", "--last", "year"), "--last year: it is one of day, week, month"),
    (("operations", "--to", "2026-03-28"), "--to goes with --from"),
    (("operations", "--from", "monday"), "--from monday: that is no date"),
    (("operations", "-p", "job=x"), "cannot be asked for 'job'"),
    (("operations", "--hash", "12345678"), "--hash goes with `smartops report kept`"),
    (("operations", "x.yaml"), "x.yaml: files go with `smartops report check`"),
    (("kept", "--hash", "12345678"), "--hash needs -o"),
    (("operations", *DAY, "-o", "no/such/folder.html"), "-o no/such/folder.html: No such file"),
    (("check", "nothing.yaml"), "nothing.yaml cannot be read: No such file"),
]


def test_what_is_wrong_is_one_line(call: Call, tmp_path: Path) -> None:
    """Exit code 2, where and what; nothing is written."""
    before = sorted(tmp_path.iterdir())
    for arguments, said in WRONG:
        code, printed, error = call("report", *arguments)
        assert (code, printed) == (2, b""), arguments
        assert said in error
        assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_what_was_kept_is_given_back(call: Call, store: Store, tmp_path: Path) -> None:
    """Listed with its hash, and written as it was."""
    content = b"as it was"
    digest = hashlib.sha256(content).hexdigest()
    times = (START, START + timedelta(days=1))
    kept_reports.keep(store, "operations", times, "text/html; charset=utf-8", content)
    shipping.ship_all(store, get_settings().journal_dir)
    listed = call("report", "kept")[1].decode()
    assert f"text/html  {len(content)}" in " ".join(listed.split()).replace(
        "text/html ", "text/html  "
    )
    assert digest[:12] in listed
    assert call("report", "kept", "--hash", digest[:12], "-o", "out.html")[0] == 0
    assert (tmp_path / "out.html").read_bytes() == content


def test_reports_of_ones_own_by_command(
    call: Call, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed beside the others, checked with all that is wrong, and made as the others are."""
    folder = tmp_path / "deployments" / "reports"
    folder.mkdir(parents=True)
    monkeypatch.setenv("SMARTOPS_DEPLOYMENTS", str(folder.parent))
    get_settings.cache_clear()
    assert "there is no report in" in call("report", "check")[2]
    good, bad = folder / "slots.yaml", folder / "wrong.yaml"
    good.write_text((ROOT / "deployments/reports/readings.yaml").read_text().replace(
        "name: readings\ntitle", "name: slots\ntitle"
    ))  # fmt: skip
    bad.write_text("name: wrong\ntitle: W\nschedule: {cron: 61 5 * * *}\nqueries: []\n")
    code, printed, error = call("report", "check")
    assert (code, printed.decode()) == (2, f"{good}: ok\n")
    assert error.splitlines() == [
        f"{bad}:1: description: is missing",
        f"{bad}:4: queries: at least one item is wanted",
    ]
    bad.write_text(good.read_text().replace("name: slots", "name: wrong").replace("15 5", "61 5"))
    said = 'the schedule cannot be used: Invalid cron string: "61 5 * * *"'
    assert f"{bad}:6: schedule.cron: {said}\n" in call("report", "check")[2]
    assert call("report", "check", str(good))[0] == 0
    bad.write_text("name: [")
    listed = call("report", "list")[1].decode()
    for said in ("operations", "audit", "slots", "Lowest, mean and highest", "cannot be used"):
        assert said in listed
    code, made, error = call("report", "slots", *DAY, "--format", "json", "-o", "-")
    assert code == 0, error
    assert json.loads(made)["tables"] == {"readings": [], "hours": []}


def test_the_sums_of_reports(call: Call, store: Store) -> None:
    """Brought up to date, and counted again as a whole."""

    def sums() -> int:
        with store.reading() as connection:
            return int(
                connection.execute(sa.select(sa.func.sum(rollup_run.c.completed))).scalar() or 0
            )

    code, printed, _ = call("audit", "rollup", "--json")
    said = json.loads(printed)
    assert (code, said["rebuilt"], said["hours"], sums()) == (0, False, 0, 0)
    code, printed, _ = call("audit", "rollup", "--rebuild", "--json")
    assert (code, json.loads(printed)["rebuilt"]) == (0, True)
    hours, counted = json.loads(printed)["hours"], sums()
    assert (hours, counted > 30) == (24, True)
    assert f": {hours} hours counted" in call("audit", "rollup", "--rebuild")[1].decode()
    assert sums() == counted
    assert call("audit", "rollup")[1].decode().endswith(": 0 hours counted\n")
