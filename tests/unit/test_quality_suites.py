"""Suites of expectations: what is refused, what a share of bad rows means, what pages hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.quality import _wanted
from reports.quality import page, results, suite
from reports.quality.expectations import KINDS
from reports.quality.results import BadRow, Found
from reports.quality.rows import rows_of
from smartops.errors import BadInput
from tests.conftest import ROOT

BETWEEN = {"expect": "column_values_to_be_between", "column": "value", "min_value": 0}


def dataset(*expectations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": "rows", "expectations": list(expectations) or [BETWEEN], **fields}


def document(*datasets: dict[str, Any], **fields: Any) -> dict[str, Any]:
    own = {"name": "s", "description": "What it is for.", "datasets": list(datasets) or [dataset()]}
    return {**own, **fields}


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "deployments/quality").iterdir()))
def test_every_suite_that_ships_loads(name: str) -> None:
    """Valid, named like its file, and with a sentence."""
    found = suite.load(ROOT / "deployments" / "quality" / f"{name}.yaml")
    assert found.description.endswith(".")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "a suite is a mapping"),
        (document(colour="red"), "colour: there is no such field"),
        (document(dataset(colour="red")), "datasets.0.colour: there is no such field"),
        (document(dataset({**BETWEEN, "colour": 1})), "takes no 'colour'"),
        (document(dataset({**BETWEEN, "mostly": 0.9})), "takes no 'mostly'"),
        (document(dataset({"expect": "values_to_sing"})), "unknown expectation 'values_to_sing'"),
        (
            document(dataset({**BETWEEN, "expect": "expect_column_values_to_be_between"})),
            "without `expect_`",
        ),
        (document(dataset({"expect": "column_values_to_be_unique"})), "needs 'column'"),
        (
            document(dataset({"expect": "column_values_to_be_between", "column": "a"})),
            "needs a min_value or a max_value",
        ),
        (document(dataset({**BETWEEN, "warn": 5, "fail": 5})), "warn has to be below fail"),
        (document(dataset({**BETWEEN, "fail": 101})), "less than 100"),
        (document(dataset(query="DELETE FROM event")), "begins with SELECT or WITH"),
        (document(dataset(query="SELECT 1; DELETE FROM event")), "one statement"),
        (document(dataset(query="SELECT 1 INTO OUTFILE '/tmp/a'")), "one statement"),
        (document(dataset(query="SELECT * FROM seal FOR UPDATE")), "one statement"),
        (document(dataset(query="SELECT :yesterday")), "names :yesterday"),
        (document(dataset(), dataset()), "the same name"),
        (document(dataset(), {**dataset(), "name": "more"}), "at most has no query"),
        (document(name="other"), "is not what the file is called"),
        (document(datasets=[]), "at least 1 item"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, given: Any, said: str) -> None:
    """File, place and reason; unknown fields, expectations and parameters are refused."""
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps(given))
    with pytest.raises(BadInput) as error:
        suite.load(path)
    assert said in error.value.one_line
    assert error.value.one_line.startswith(str(path))
    assert "\n" not in error.value.one_line


def test_a_quoted_word_is_no_parameter() -> None:
    """What stands in quotes or comments of a query is not looked at."""
    text = "SELECT ':yesterday; into outfile' AS a -- for update\nFROM event WHERE at >= :since"
    found = suite.Suite.model_validate(document(dataset(query=text)))
    assert not found.takes_rows


@pytest.mark.parametrize(
    ("limits", "bad", "status"),
    [
        ({}, 0, "passed"),
        ({}, 1, "failed"),
        ({"fail": 10}, 10, "passed"),
        ({"fail": 10}, 11, "failed"),
        ({"warn": 0, "fail": 10}, 1, "warned"),
        ({"warn": 5, "fail": 10}, 5, "passed"),
        ({"warn": 0, "fail": "never"}, 100, "warned"),
        ({"fail": "never"}, 100, "passed"),
    ],
)
def test_thresholds(limits: dict[str, Any], bad: int, status: str) -> None:
    """More bad rows than `warn` percent are a warning, more than `fail` a failure."""
    given = suite.Suite.model_validate(document(dataset({**BETWEEN, **limits})))
    (of,) = given.datasets
    found = results.of_rows(of, of.expectations[0], 100, bad)
    assert (found.status, found.bad_share) == (status, bad)
    whole = results.of_whole(of, of.expectations[0], 100, holds=not bad, observed=None)
    wanted = {"never": "warned" if "warn" in limits else "passed"}
    if bad and not isinstance(limits.get("fail"), int):
        assert whole.status == wanted.get(limits.get("fail", ""), "failed")


def test_the_worst_status_is_that_of_the_check() -> None:
    """Failed before warned before passed; of nothing it is passed."""
    assert results.worst(["passed", "failed", "warned"]) == "failed"
    assert results.worst(["passed", "warned"]) == "warned"
    assert results.worst([]) == "passed"


def test_rows_of_what_steps_give() -> None:
    """Lists of objects, readings by tag, and readings of several reads."""
    readings = {"level": {"tag": "level", "value": 4}, "speed": {"value": 7}}
    by_tag = [{"tag": "level", "value": 4}, {"tag": "speed", "value": 7}]
    assert rows_of([{"a": 1}, {"a": 2}]) == [{"a": 1}, {"a": 2}]
    assert rows_of(readings) == by_tag
    assert rows_of({"readings": readings, "values": {}}) == by_tag
    assert rows_of([{"readings": readings}, {"readings": {}}]) == [{"item": 0, **r} for r in by_tag]
    for wrong in (7, "text", [1], {"a": 1}, [{"a": 1}, 2]):
        with pytest.raises(BadInput, match="rows: "):
            rows_of(wrong)


def test_a_page_needs_nothing_from_the_network() -> None:
    """One file; what stands in the data is text, and secrets are masked."""
    given = suite.Suite.model_validate(document())
    (of,) = given.datasets
    result = results.of_rows(of, of.expectations[0], 2, 1)
    row = {"value": -1, "reason": "<script>x</script>", "password": "hunter2"}
    bad = BadRow("rows", 1, row, ["too low"])
    html = page.check_page("s", datetime.now(UTC), [result], [bad])
    assert not re.search(r"(src|href)=|url\(|@import|https?:", html)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "hunter2" not in html
    assert "too low" in html
    assert "1 of 2 rows do not meet it (50 %)" in html


def test_what_is_found_goes_between_processes() -> None:
    """As JSON and back it is the same."""
    given = suite.Suite.model_validate(document())
    (of,) = given.datasets
    result = results.of_rows(of, of.expectations[0], 2, 1)
    found = Found(
        "s", "0" * 64, {"rows": 2}, [result], [BadRow("rows", 1, {"a": 1}, ["b"])], 0.1, 2
    )
    assert Found.from_json(found.as_json()) == found


def test_nobody_pays_for_the_library_who_does_not_use_it() -> None:
    """All steps, flows and commands import neither Great Expectations nor pandas."""
    code = (
        "import sys, tasks.catalogue, flows.quality, smartops.cli.quality\n"
        "import reports.quality.history, reports.quality.judging\n"
        "tasks.catalogue.load()\n"
        "sys.exit(bool({'great_expectations', 'pandas'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_flow_looks_at_what_needs_no_rows() -> None:
    """Every suite whose rows come from queries, and none that a step has to give rows."""
    assert _wanted(None) == _wanted([]) == ["audit"]
    assert _wanted(["readings"]) == ["readings"]


def test_the_page_lists_every_expectation() -> None:
    """The how-to page names each that a suite may have."""
    text = (ROOT / "docs" / "how-to" / "quality.md").read_text()
    assert [name for name in KINDS if f"`{name}`" not in text] == []
