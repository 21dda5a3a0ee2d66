"""Files of users' own reports: what is wrong with one is said at once, with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports.own import files
from smartops import errors
from smartops.yaml_problems import FileProblems

WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {"name": "other"}, "name: 'other' is not what the file is called"),
    ({}, {"name": "audit"}, "name: 'audit' is taken"),
    ({}, {"colour": "red"}, "colour: there is no such field"),
    ({}, {"period": "year"}, "period: "),
    ({}, {"schedule": {"cron": "5 5 * *"}}, "schedule.cron: cron has five fields"),
    ({}, {"schedule": {"cron": "5 5 * * *", "timezone": "Mars"}}, "schedule.timezone: 'Mars' is"),
    ({}, {"formats": []}, "formats: at least one item is wanted"),
    ({}, {"mail": ["shift"]}, "mail: 'shift' is no mail address"),
    ({}, {"mail": ["a@b\nBcc: c@d"]}, "is no mail address"),
    ({}, {"formats": ["html"], "attach": ["pdf"]}, "attach: pdf is not among the formats"),
    ({}, {"template": "{% for %}"}, "template: line 1 of it: "),
    ({}, {"template": "{{ tanks }}"}, "template: 'tanks' is unknown; there are: levels, period"),
    ({}, {"template": "{{ levels | random }}"}, "template: .*No filter named 'random'"),
    ({}, {"template": "{% for a in levels %}" * 30 + "{% endfor %}" * 30}, "too deeply nested"),
    ({}, {"template": "{% include 'x' %}"}, "a template is whole by itself"),
    ({"text": "{{ levels.pop() }}"}, {}, "queries.0.text: line 1 of it: a template calls nothing"),
    ({"sql": "SELECT * FROM seal"}, {}, "queries.0.sql: table seal may not be read"),
    ({"sql": "DROP TABLE job_run"}, {}, "queries.0.sql: a query begins with SELECT"),
    ({"sql": "SELECT :me"}, {}, "queries.0.sql: the query names :me"),
    ({"python": "no function"}, {}, "queries.0.python: 'no function' does not match"),
    ({"python": "a:b", "sql": "SELECT 1"}, {}, "queries.0: give exactly one of sql and python"),
    ({"given": ["levels"]}, {}, "queries.0: given goes with python"),
    ({"python": "a:b", "given": ["levels"]}, {}, "there is no query 'levels' above it"),
    ({"python": "a:b", "args": {"start": 1}}, {}, "argument 'start' is given twice"),
    ({"show": False, "text": "x"}, {}, "queries.0: text goes with show: true"),
    ({"name": "period"}, {}, "none is `period`"),
    ({"chart": {"kind": "bars", "title": "x", "labels": "a", "values": ["b"], "limit": 1}}, {},
     "queries.0.chart: limit goes with kind: lines"),
    ({"chart": {"kind": "lines", "title": "x", "labels": "a", "values": ["b"], "lying": True}}, {},
     "queries.0.chart: lying goes with kind: bars"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "options", "said"), WRONG, ids=lambda value: str(value)[:40])
def test_what_is_wrong_in_a_file(
    tmp_path: Path, query: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    """Told at once, with file and line, in one line."""
    plain = {"name": "levels", "title": "Levels", "sql": "SELECT 1 AS n"}
    if "python" in query and "sql" not in query:
        del plain["sql"]
    own = {"name": "own", "title": "Own", "description": "What is wanted."}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({**own, "queries": [{**plain, **query}], **options}))
    with pytest.raises(errors.BadInput, match=rf"own\.yaml:\d+: .*{said}") as error:
        files.load(path)
    assert "\n" not in error.value.one_line


def test_all_that_is_wrong_is_said(tmp_path: Path) -> None:
    """Each with its own line; what is no YAML, no mapping or no text has one too."""
    path = tmp_path / "own.yaml"
    path.write_text("name: own\ntitle: T\ncolour: red\nqueries:\n  - name: a\n    sql: SELECT 1\n")
    with pytest.raises(FileProblems) as error:
        files.load(path)
    lines = {problem.field: problem.line for problem in error.value.problems}
    assert lines == {"description": 1, "colour": 3, "queries.0.title": 5}
    for text, said in (
        ("name: [", "own.yaml:1: "),
        ("- a", "own.yaml:1: a report is a mapping"),
        ("a: 1\na: 2", "own.yaml:2: key 'a' is given twice"),
    ):
        path.write_text(text)
        with pytest.raises(errors.BadInput, match=re.escape(said)):
            files.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(errors.BadInput, match="is not a text in UTF-8"):
        files.load(path)
    with pytest.raises(errors.BadInput, match="cannot be read: No such file"):
        files.load(tmp_path / "nothing.yaml")
