"""Input that is wrong, odd or meant to harm: one-line errors, no crash, no bomb."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest
from pydantic import ValidationError

from smartops import redact
from smartops.drivers.tags import Tag
from smartops.errors import BadInput, TemplateError
from smartops.jobs import loader, templating
from smartops.jobs.loader import JobFileProblems
from smartops.jobs.param import Param

REST = "id: s, kind: rest.request, service: s"
WRITE = "id: s, kind: modbus.write, device: d, tag: t, value: 1"
WAIT = "{id: s, kind: wait, duration: 1s}"
NAMES = {"steps": {"a": {"value": 5, "text": "x"}}, "params": {}, "run": {}}


@pytest.mark.parametrize(
    "text",
    [
        "name: a\x00",
        "? [a, b]\n: c",
        "? {a: b}\n: c",
        "a: &x [*x]",
        "a: &a [1]\nb: [*a, *a]",
        "[" * 5000,
        "name: j\nsteps: [{id: s, kind: wait, duration: .inf}]",
        "name: j\nsteps: [{id: s, kind: wait, duration: 99999999999999d}]",
        "name: j\nsteps: [{id: s, kind: wait, duration: 1e999}]",
        "name: j\nsteps: [{id: s, kind: wait, duration: 5m}]",
        f"name: j\nsteps: [{WAIT}]\n---\nname: k",
        "name: j\nsteps: 5",
        "name: j\nsteps: [{id: s, kind: modbus.write, device: d, tag: t, value: null}]",
        f"name: j\nsteps: [{{{WRITE}, tolerance: 1e999}}]",
        f"name: j\nsteps: [{{{REST}, path: /, headers: {{Authorization: x}}}}]",
        f"name: j\nsteps: [{{{REST}, path: /, body: {{'{{{{ run.id }}}}': 1}}}}]",
        f"name: j\nsteps: [{{{REST}, path: '{{{{ 1 | frobnicate }}}}'}}]",
    ],
)  # fmt: skip
def test_a_bad_job_file_is_problems_with_lines(text: str) -> None:
    """Never a traceback, never another error class, and each problem is one line."""
    with pytest.raises(JobFileProblems) as error:
        loader.loads(text, "f.yaml")
    for problem in error.value.problems:
        assert problem.line >= 1
        assert "\n" not in str(problem)


@pytest.mark.parametrize(
    ("written", "value"),
    [("12:30", "12:30"), ("010", "010"), ("2026-01-01", "2026-01-01"), ("1e308", 1e308),
     ("yes", "yes"), ("False alarm", "False alarm"), ("true", True), ("-5", -5), ("0.5", 0.5)],
)  # fmt: skip
def test_a_value_is_what_it_looks_like(written: str, value: object) -> None:
    """Not what YAML 1.1 makes of it: 12:30 is no 750, 010 no 8, yes no true."""
    text = f"name: j\nsteps: [{{id: s, kind: assert, checks: [{{left: {written}, right: 1}}]}}]"
    (step,) = loader.loads(text).steps
    assert step.model_dump()["checks"][0]["left"] == value


def test_a_parameter_may_be_called_like_a_step_kind() -> None:
    """The line and the field of its error are its own."""
    text = f"name: j\nparams:\n  wait: {{type: bogus}}\nsteps: [{WAIT}]"
    with pytest.raises(JobFileProblems) as error:
        loader.loads(text)
    (problem,) = error.value.problems
    assert (problem.line, problem.field) == (3, "params.wait.type")


@pytest.mark.parametrize(
    "text",
    [
        "{{- steps.a.value }}",
        "{{ steps.a.value -}}",
        "{{+ steps.a.value }}",
        "{{ '%300000000d' % 1 }}",
        "{{ 'a' | center(300000000) }}",
        "{{ [1] | batch(300000000, 0) | list }}",
        "{{ [1] | slice(50000000) | list }}",
        "{{ " + "[" * 400 + "]" * 400 + " }}",
        "{{ " + "1+" * 3000 + "1 }}",
        "{{ 1000**1000*1000**1000 }}",
        "{{ 'a'.encode() }}",
        "{{ steps.a.text.upper() }}",
        "{{ [1, 2, 3] | random }}",
    ],
)
def test_an_expression_cannot_be_a_weapon(text: str) -> None:
    """A TemplateError within a second and without a gigabyte."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    with pytest.raises(TemplateError):
        templating.render({"checked": list(templating.references(text)), "text": text}, NAMES)
    assert time.process_time() - begun < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_a_sign_is_not_lost() -> None:
    """The whitespace control of Jinja would have read the one as the other."""
    assert templating.render("{{ -steps.a.value }}", NAMES) == -5
    assert templating.render("{{ steps.a.value }}", NAMES) == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_parameter_is_a_number_that_can_be_used(value: float) -> None:
    """NaN passes every comparison and breaks JSON."""
    with pytest.raises(ValueError, match="no number"):
        Param(type="number").check("p", value)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "u16", "min": float("nan")},
        {"kind": "u16", "order": "CDAB"},
        {"area": "coil", "kind": "bool", "order": "BADC"},
        {"area": "coil", "kind": "bool", "bit": 3},
        {"kind": "string", "length": 2, "order": "DCBA"},
        {"kind": "string", "length": 2, "max": 3},
    ],
)
def test_a_tag_option_without_an_effect_is_refused(fields: dict[str, Any]) -> None:
    """A setting that is accepted is enforced."""
    with pytest.raises(ValidationError):
        Tag.model_validate({"name": "t", "address": 0, **fields})


def test_limits_hold_for_what_the_registers_hold() -> None:
    """A value that rounds over its limit is over its limit; a text is no number."""
    level = Tag(name="t", address=0, scale=0.1, max=9.96, allow_write=True)
    with pytest.raises(ValueError, match="above"):
        level.check_write(9.96)
    name = Tag(name="t", address=0, kind="string", length=2, allow_write=True)
    with pytest.raises(ValueError, match="no text"):
        name.check_write(5)
    assert Tag(name="t", address=0, kind="bool", bit=0, order="BADC").decode([0x0100]) is True


def test_secrets_in_answers_and_containers() -> None:
    """A token in a body's text, a number under a secret's name, a list of tokens."""
    assert "hunter2" not in redact.text('200 {"access_token": "hunter2hunter2", "a": 1}')
    value = {"password": 123456, "tokens": ["abcdef"], "cookies": {"a": "b"}, "pin": 1234}
    assert set(redact.scrub(value).values()) == {redact.MASK}


@pytest.mark.parametrize(
    "url", ["mysql+pymysql://h/x?password=s3cret", "sqlite:////no/such/dir/x.db"]
)
def test_a_database_url_that_would_hurt(home: object, url: str) -> None:
    """A password where it would be shown, a folder that is a typo."""
    from smartops.audit import schema
    from smartops.audit.store import Store

    with pytest.raises(BadInput) as error:
        schema.migrate(Store(url))
    assert "s3cret" not in error.value.one_line
