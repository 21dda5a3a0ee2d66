"""Users' own reports: each option of their files, on both databases; what they cannot do."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from uuid6 import uuid7

from reports import as_html, catalogue, own_query
from reports.document import Bars, Column, Document, Lines
from reports.own import calling, files, functions, readable
from reports.own_query import first_id
from reports.period import Period
from smartops import errors
from smartops.audit import models, schema
from smartops.audit.store import Store
from smartops.settings import get_settings
from tests.conftest import ROOT

START = datetime(2026, 3, 27, tzinfo=UTC)
DAY = Period(START, START + timedelta(days=1), "Europe/Berlin", "day")
Write = Callable[..., Path]

LEVELS = """
SELECT tag, COUNT(*) AS n, AVG(number) AS mean, MAX(received_at) AS last
FROM reading WHERE received_at >= :since AND received_at < :until GROUP BY tag ORDER BY tag
"""
PYTHON = """
import os
import time
from datetime import datetime


def double(start: datetime, end: datetime, levels: list[dict], times: int = 2) -> list[dict]:
    assert (end - start).total_seconds() == 86400
    return [{**row, "mean": row["mean"] * times, "more": {"a": 1}} for row in levels]


def slow(start: datetime, end: datetime) -> list[dict]:
    time.sleep(600)


def wrong(start: datetime, end: datetime, what: str) -> object:
    if what == "raises":
        raise KeyError("speed")
    if what == "dies":
        os._exit(3)
    return {"text": "no list", "numbers": [1]}[what]


def many(start: datetime, end: datetime) -> list[dict]:
    return [{"n": n, "part": float("nan")} for n in range(20)]
"""


@pytest.fixture
def write(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a report's file; what it has beside the options given is plain."""
    folder = tmp_path / "deployments" / "reports"
    folder.mkdir(parents=True)
    monkeypatch.setenv("SMARTOPS_DEPLOYMENTS", str(folder.parent))
    (tmp_path / "plant_reports.py").write_text(PYTHON)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    get_settings.cache_clear()

    def made(query: dict[str, Any] | None = None, **options: Any) -> Path:
        path = folder / "own.yaml"
        plain = {"name": "levels", "title": "Levels", "sql": LEVELS}
        if "python" in (query or {}):
            del plain["sql"]
        own = {"name": "own", "title": "Own", "description": "What is wanted."}
        path.write_text(yaml.safe_dump({**own, "queries": [{**plain, **(query or {})}], **options}))
        return path

    return made


@pytest.fixture(scope="module", params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def history(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Six readings of two tags, one of the day before. Nobody may change it."""
    url = f"sqlite:///{tmp_path_factory.mktemp('own') / 'audit.sqlite'}"
    name = f"smartops_own_{os.getpid()}"
    if request.param == "mysql":
        server = request.getfixturevalue("mysql_server")
        on_server(server, f"CREATE DATABASE {name}")
        url = f"{server}/{name}"
    store = filled(url)
    yield store
    store.close()
    if request.param == "mysql":
        on_server(server, f"DROP DATABASE {name}")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same on SQLite, for what has nothing to do with the database. Nobody may change it."""
    store = filled(f"sqlite:///{tmp_path_factory.mktemp('one') / 'audit.sqlite'}")
    yield store
    store.close()


def filled(url: str) -> Store:
    store = Store(url)
    schema.migrate(store)
    with store.transaction() as connection:
        for number in range(7):
            at = START + timedelta(hours=number - 1)
            row = {"stream": first_id(at), "seq": number, "item": 0, "run_id": uuid7()}
            what = {"device": "line-1", "tag": "ab"[number % 2], "unit": "%", "quality": "good"}
            value = {"value": str(number), "number": float(number), "received_at": at, "reason": ""}
            values = {**row, **what, **value, "step_run_id": uuid7()}
            connection.execute(sa.insert(models.reading).values(values))
    return store


def on_server(server: str, statement: str) -> None:
    engine = sa.create_engine(f"{server}/", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def build(store: Store, name: str = "own", period: Period = DAY) -> Document:
    return catalogue.build(store, catalogue.find(name), period, {})


def refused(store: Store, match: str, error: type[Exception] = errors.BadInput) -> None:
    with pytest.raises(error, match=match):
        build(store)


# --- queries ----------------------------------------------------------------------------------


def test_a_query_as_it_comes(history: Store, write: Write) -> None:
    """Its rows of the period, in each format; columns are shown as what they look like."""
    write()
    document = build(history)
    table = document.table("levels")
    last = START + timedelta(hours=5)
    assert table.rows == (
        ("a", 3, 4.0, START + timedelta(hours=5)),
        ("b", 3, 3.0, START + timedelta(hours=4)),
    )
    assert [c.kind for c in table.columns] == ["text", "count", table.columns[2].kind, "time"]
    assert document.sections[0].title == "Levels"
    shown = json.loads(catalogue.rendered(document, "json"))
    assert shown["tables"]["levels"][0]["last"] == last.isoformat()
    assert shown["facts"]["revision"] == files.revision(files.folder() / "own.yaml")
    assert b"2026-03-27 06:00:00" in catalogue.rendered(document, "html")  # Berlin
    assert build(history) == document
    keys = "SELECT COUNT(*) AS n FROM reading WHERE stream >= :since_key AND stream < :until_key"
    write({"sql": keys})
    assert build(history).table("levels").rows == ((6,),)


def test_how_rows_are_shown(one: Store, write: Write) -> None:
    """Columns, their titles and kinds, note, text, chart with each of its options, or nothing."""
    columns = [{"name": "mean", "title": "Mean", "kind": "seconds"}, {"name": "tag"}]
    chart = {"kind": "bars", "title": "Means", "labels": "tag", "values": ["mean", "n"]}
    write(
        {
            "columns": columns,
            "note": "Read it so.",
            "text": "Of {{ levels | length }}\n tags.",
            "chart": {**chart, "unit": "%", "lying": True},
        }
    )
    (section,) = build(one).sections
    drawn, table = section.parts
    assert section.text == "Of 2 tags."
    assert table == build(one).table("levels")
    assert (table.name, table.title) == ("levels", "Levels")
    assert build(one).table("levels").note == "Read it so."
    assert build(one).table("levels").columns == (
        Column("mean", "Mean", "seconds"),
        Column("tag", "tag", "text"),
    )
    assert isinstance(drawn, Bars)
    assert (drawn.title, drawn.labels, drawn.unit, drawn.lying) == ("Means", ("a", "b"), "%", True)
    assert [(s.title, s.values) for s in drawn.series] == [("Mean", (4.0, 3.0)), ("n", (3.0, 3.0))]
    assert "<svg" in as_html.as_html(build(one)).decode()
    write({"chart": {**chart, "kind": "lines", "limit": 3.5, "labels": "last"}})
    lines = build(one).charts()[0]
    assert isinstance(lines, Lines)
    assert (lines.limit, lines.labels) == (3.5, ("2026-03-27 06:00", "2026-03-27 05:00"))
    write({"chart": {**chart, "values": ["tag"]}})
    refused(one, "report own, levels: chart: column tag: 'a' is no number")
    write({"columns": [{"name": "nothing"}]})
    refused(one, "levels: there is no column 'nothing'; there are: tag, n, mean, last")
    write({"show": False})
    assert build(one).sections == ()


def test_no_rows_and_too_many(history: Store, write: Write) -> None:
    """What stands there without rows is one's own word; more rows than wanted are an error."""
    write({"empty": "No tag at all.", "rows": 2})
    assert len(build(history).table("levels").rows) == 2
    early = Period(START - timedelta(days=9), START - timedelta(days=8))
    page = as_html.as_html(build(history, period=early)).decode()
    assert "No tag at all." in page
    write({"rows": 1})
    refused(history, "report own, levels: the query gives more than 1 rows")


_ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000) "
    "SELECT MAX(a.i + b.i) AS most FROM n a, n b"
)


def test_a_query_that_takes_too_long_is_ended(history: Store, write: Write) -> None:
    """By the database itself, at the limit of the report."""
    if history.is_server:
        tables = ", ".join(f"reading r{number}" for number in range(20))
        endless = f"SELECT COUNT(*) AS n FROM {tables} WHERE r1.reason <> r2.reason OR 1 > 0"
    else:
        endless = _ENDLESS
    write({"sql": endless}, limit="500ms")
    refused(history, "report own, levels: the query took longer than 500ms")
    write(limit="20s")
    assert build(history).tables()


def test_the_database_refuses_what_the_text_might_hide(history: Store) -> None:
    """SQLite knows which table is read; on a server no WITH may hide one behind its name."""
    period = own_query.Period(START, START + timedelta(days=1))

    def rows(query: str) -> Any:
        limit = timedelta(seconds=20)
        return own_query.rows(
            history, query, period, most=9, limit=limit, tables=readable.READABLE
        )[1]

    hidden = (
        "SELECT x.a, seal.number FROM (WITH seal AS (SELECT 1 AS a) SELECT a FROM seal) x, seal"
    )
    assert readable.problem(hidden) == ""
    if history.is_server:
        with pytest.raises(errors.BadInput, match="WITH seal: a table has that name"):
            rows(hidden)
    else:
        for query in (hidden, "SELECT * FROM event", "SELECT name FROM sqlite_master"):
            with pytest.raises(errors.BadInput, match="cannot be answered"):
                rows(query)
        with pytest.raises(errors.BadInput, match="cannot be answered"):
            rows("DELETE FROM reading")
    assert rows("WITH x AS (SELECT tag FROM reading) SELECT COUNT(*) AS n FROM x") == [{"n": 7}]


# --- Python -----------------------------------------------------------------------------------


def python(function: str, **more: Any) -> dict[str, Any]:
    return {"name": "found", "title": "Found", "python": f"plant_reports:{function}", **more}


def test_python_gets_rows_and_gives_rows(
    one: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of queries above it, with arguments; only of packages that are allowed."""
    above = {"name": "levels", "title": "Levels", "sql": LEVELS, "show": False}
    shown = [{"name": "tag"}, {"name": "mean"}, {"name": "last", "kind": "time"}, {"name": "more"}]
    own = python("double", given=["levels"], args={"times": 10}, columns=shown)
    write(queries=[above, own])
    refused(one, "report own, found: functions of package 'plant_reports' may not be called")
    monkeypatch.setenv("SMARTOPS_PYTHON_PACKAGES", "plant_reports")
    get_settings.cache_clear()
    assert build(one).table("found").rows[0] == (
        "a", 40.0, START + timedelta(hours=5), '{"a": 1}',
    )  # fmt: skip
    assert len(build(one).tables()) == 1
    write(queries=[above, {**own, "args": {}}])
    assert build(one).table("found").rows[0][1] == 8.0
    write(queries=[above, {**own, "given": []}])
    refused(one, "found: plant_reports:double: levels: Missing")


def test_what_goes_wrong_in_python_is_said(
    one: Store, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error, an end of its process, no rows, too many, too slow; no number is an empty cell."""
    monkeypatch.setenv("SMARTOPS_PYTHON_PACKAGES", "plant_reports")
    get_settings.cache_clear()
    for what, error, said in (
        ("raises", errors.FunctionFailed, "own, found: plant_reports:wrong raised KeyError: 'spee"),
        ("dies", errors.FunctionFailed, r"ended its process \(exit status 3\)"),
        ("text", errors.BadInput, "gives no list of objects"),
        ("numbers", errors.BadInput, "gives no list of objects"),
    ):
        write(queries=[python("wrong", args={"what": what})])
        refused(one, said, error)
    write(queries=[python("many", rows=20)])
    assert build(one).table("found").rows[19] == (19, None)
    write(queries=[python("many", rows=19)])
    refused(one, "gives more than 19 rows")
    write(queries=[python("slow")], limit="1s")
    refused(one, "found: plant_reports:slow took longer than 1s")


def test_time_outside_of_limits() -> None:
    """A value lasts until the next, and no longer than is said; what was before does not count."""
    at = [START + timedelta(hours=h) for h in (-1, 1, 2, 3, 20)]
    values = (10.0, 50.0, 90.0, 95.0, 10.0)
    rows = [
        {"device": "d", "tag": "t", "at": moment.isoformat(), "value": value}
        for moment, value in zip(at, values, strict=True)
    ]
    (found,) = functions.outside(
        START, START + timedelta(hours=21), rows, {"d/t": (20, 80)}, holds_s=2 * 3600
    )
    assert (found["below_s"], found["above_s"], found["episodes"]) == (7200.0, 10800.0, 3)
    assert (found["below"], found["above"]) == (2.0, 3.0)
    assert found["outside"] == pytest.approx(5 / 6)
    (one,) = functions.outside(START, START + timedelta(hours=21), rows, {"d/t": (None, 80)})
    assert one["below_s"] == 0
    (none,) = functions.outside(START, START + timedelta(days=1), [], {"x/y": (None, 1)})
    assert (none["readings"], none["outside"]) == (0, None)


# --- words ------------------------------------------------------------------------------------


def test_the_words_are_what_the_template_says(one: Store, write: Write) -> None:
    """A sentence for each line, over all rows and the period, as the tables show values."""
    text = """
      {% for row in levels %}
      {{ row.tag }}: {{ row.mean | shown("seconds") }} at {{ row.last | shown("time") }}
      {% endfor %}
      {{ period.label }} of {{ period.zone }}: {{ levels | sum(attribute="n") }} <b>readings</b>
    """
    write(template=textwrap.dedent(text))
    assert build(one).summary == (
        "a: 4.00 s at 2026-03-27 06:00:00",
        "b: 3.00 s at 2026-03-27 05:00:00",
        "Friday, 27 March 2026 of Europe/Berlin: 6 <b>readings</b>",
    )
    assert b"&lt;b&gt;readings" in catalogue.rendered(build(one), "html")


def test_a_template_cannot_leave_its_place(one: Store, write: Write) -> None:
    """No attributes, no calls, no endless loop, no memory of the machine."""
    for text, said in (
        ("{{ levels.__class__ }}", "words: .*template"),
        ("{{ levels[0].nothing }}", "words: .*template: .*nothing"),
        ("{{ levels[0].tag * 1000 }}", "is for numbers only"),
    ):
        write(template=text)
        refused(one, said)
    loops = "".join(f"{{% for a{n} in levels %}}" for n in range(15))
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99)"
    many = {"sql": f"{numbers} SELECT i FROM n"}
    write(many, template=loops + "{% set x = 1 %}" + "{% endfor %}" * 15, limit="2s")
    refused(one, "report own, words: .* took longer than 2s")
    grows = "{% set x = 'xxxxxxxx' %}" + "{% set x = x ~ x ~ x ~ x ~ x ~ x ~ x ~ x %}" * 10
    write(template=grows)
    refused(one, "words: .*template: it takes too much memory")
    write(
        template="{% set x = 'xxxxxxxx' %}"
        + "{% set x = x ~ x ~ x ~ x ~ x ~ x ~ x ~ x %}" * 5
        + "{{ x }}"
    )
    refused(one, "comes to more than 20,000 characters")


def test_a_process_of_its_own_ends_with_the_call() -> None:
    """Also with what it has started itself."""
    assert calling.call("os.path:basename", {"p": "/a/b"}, timedelta(seconds=60)) == "b"


# --- the file ---------------------------------------------------------------------------------


def test_the_file_says_how_it_is_made(home: Path, write: Write) -> None:
    """Name, title, description, period, formats, what mails carry and to whom."""
    write(
        title="Levels of the tanks",
        period="week",
        formats=["csv", "html"],
        attach=["csv"],
        mail=["shift@example.com"],
    )
    kind = catalogue.find("own")
    assert "own" in catalogue.names()
    assert (kind.name, kind.title, kind.description) == (
        "own", "Levels of the tanks", "What is wanted.",
    )  # fmt: skip
    assert (kind.span, kind.formats, kind.attached) == ("week", ("csv", "html"), ("csv",))
    assert kind.mail == ("shift@example.com",)
    write(formats=["csv", "html"])
    assert catalogue.find("own").attached == ("html",)
    with pytest.raises(errors.BadInput, match=r"there is no report '\.\./own'"):
        catalogue.find("../own")


def test_the_examples_are_made(history: Store, home: Path) -> None:
    """Both that ship, over readings, without any setting."""
    assert files.folder() == ROOT / "deployments" / "reports"
    readings = build(history, "readings")
    assert readings.summary == ("2 tags were read 6 times.",)
    assert len(readings.table("hours").rows) == 6
    outside = build(history, "outside-limits")
    assert outside.table("outside").rows[0][:4] == ("plant-line/tank_level", 20, 80, 0)
    assert outside.summary == ("Nothing was outside of its limits.",)


def test_the_report_of_the_docs_is_made(history: Store, write: Write) -> None:
    """As it stands there."""
    page = (ROOT / "docs/how-to/reports.md").read_text()
    text = re.search(r"```yaml\n# deployments/reports/failures.yaml\n(.*?)```", page, re.DOTALL)
    assert text is not None
    (files.folder() / "failures.yaml").write_text(text[1])
    assert build(history, "failures").table("failed").rows == ()
