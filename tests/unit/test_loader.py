from __future__ import annotations

from pathlib import Path

import pytest

from smartops.errors import JobFileError
from smartops.jobs import loader
from smartops.jobs.loader import JobFileProblems


def lines(text: str) -> list[str]:
    with pytest.raises(JobFileProblems) as error:
        loader.loads(text, "job.yaml")
    return [str(problem) for problem in error.value.problems]


def test_each_problem_has_file_line_and_field() -> None:
    """All problems of a file are told at once, each where it stands."""
    text = """\
name: Line Check
steps:
  - id: a
    kind: wait
    durtion: 5s
  - id: b
    kind: browser.run
    profile: p
    actions:
      - {do: goto, path: /}
      - {do: clik}
  - id: c
    kind: nope
  - id: d
"""
    assert lines(text) == [
        "job.yaml:1: name: 'Line Check' does not match ^[a-z0-9][a-z0-9-]*$",
        "job.yaml:5: steps.0.durtion: there is no such field",
        "job.yaml:11: steps.1.actions.1: unknown do 'clik'; "
        "known: goto, click, hover, fill, select, check, press, upload, download, wait_for, "
        "expect, extract, table, screenshot, pdf, eval, dialog, tab",
        "job.yaml:12: steps.2: unknown kind 'nope'; "
        "known: rest.request, rest.webhook, modbus.read, modbus.write, opcua.read, opcua.write, "
        "opcua.call, mqtt.publish, mqtt.ask, serial.ask, serial.listen, "
        "browser.run, browser.selenium, wait, assert, check.quality, approval, job, python.call, "
        "rest.paginate, rest.poll, rest.download, rest.upload",
        "job.yaml:14: steps.3: kind is missing",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a job is a mapping"),
        ("- 1", "a job is a mapping"),
        ("name: [", "job.yaml:1:"),
        ("name: a\nname: b", "job.yaml:2: key 'name' is given twice"),
        ("name: a\nsteps: []", "steps"),
        ("name: !!python/object:os.system x\nsteps: []", "could not determine a constructor"),
        ("name: a\nsteps: &a [*a]", "job.yaml"),
    ],
)
def test_what_is_no_job(text: str, said: str) -> None:
    """Broken YAML, a key given twice and Python objects are one-line errors."""
    assert said in lines(text)[0]


def test_graph_problems_have_lines_too() -> None:
    """An unknown step is told at the line where it is named."""
    text = "name: a\nsteps:\n  - id: a\n    kind: wait\n    duration: 1s\n    needs: [b]\n"
    assert lines(text) == ["job.yaml:6: steps.0.needs: unknown step 'b'; known: a"]


def test_a_retry_on_an_unknown_error_is_refused() -> None:
    """A setting that is accepted is enforced, so a misspelt error name cannot stand."""
    text = "name: a\nsteps: [{id: a, kind: wait, duration: 1s, retry: {on: [DeviceTimeuot]}}]"
    assert "is no error that may be retried" in lines(text)[0]


def test_files(tmp_path: Path) -> None:
    """A missing file, a folder, a binary and a huge file are refused with their name."""
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00name")
    (tmp_path / "huge.yaml").write_bytes(b"#" * 1_000_001)
    for name in ("missing.yaml", "binary.yaml", "huge.yaml", "."):
        with pytest.raises(JobFileError, match=r".+"):
            loader.load(tmp_path / name)


def test_json_is_yaml(tmp_path: Path) -> None:
    """A job may be written as JSON."""
    file = tmp_path / "job.json"
    file.write_text('{"name": "a", "steps": [{"id": "a", "kind": "wait", "duration": "1s"}]}')
    assert loader.load(file).steps[0].id == "a"


def test_on_and_off_are_words() -> None:
    """YAML 1.1 would read them as true and false, and `retry: {on: ...}` would not be a key."""
    text = "name: a\nsteps: [{id: a, kind: wait, duration: 1s, retry: {on: [DeviceTimeout]}}]"
    assert loader.loads(text).steps[0].retry.on == ("DeviceTimeout",)
    text = "name: a\ndescription: off\nsteps: [{id: a, kind: wait, duration: 1s}]"
    assert loader.loads(text).description == "off"
