from __future__ import annotations

from typing import Any

import pytest

from smartops.errors import TemplateError
from smartops.jobs import templating

NAMES: dict[str, Any] = {
    "steps": {"level": {"value": 3.5, "body": {"items": [{"id": "A"}], "keys": 1}}},
    "params": {"line": "line-1"},
    "run": {"id": "r1", "job": "j"},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ steps.level.value }}", 3.5),
        ("{{ steps.level.value * 2 }}", 7.0),
        (" {{ steps.level.value }} ", 3.5),
        ("level {{ steps.level.value }} on {{ params.line }}", "level 3.5 on line-1"),
        ("{{ steps.level.body.items[0].id }}", "A"),
        ("{{ steps.level.body.keys }}", 1),
        ("{{ steps.level.value > 3 and params.line == 'line-1' }}", True),
        ("no expression", "no expression"),
        ("{{ params.line }}{{ params.line }}", "line-1line-1"),
    ],
)
def test_renders(text: str, value: object) -> None:
    """One expression keeps its type, several become text, and dots never reach a dict's methods."""
    assert templating.render(text, NAMES) == value


def test_renders_through_lists_and_mappings() -> None:
    """Expressions are found at any depth; other values stay as they are."""
    value = {"a": ["{{ params.line }}", 1], "b": {"c": None}}
    assert templating.render(value, NAMES) == {"a": ["line-1", 1], "b": {"c": None}}


@pytest.mark.parametrize(
    "text",
    [
        "{{ steps.nothing }}",
        "{{ steps.level.__class__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ steps.level.body.items.append(1) }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 'a' * 1000000000 }}",
        "{{ [0] * 1000000000 }}",
        "{{ 1 / 0 }}",
        "{{ 'a' < 1 }}",
        "{{ range(10) }}",
        "{% for x in y %}{% endfor %}",
        "{{ }}",
        "{{ lipsum() }}",
        "{{ params.line.format(steps) + params.nothing }}",
    ],
)
def test_refuses(text: str) -> None:
    """What is unknown, unsafe or endless is a TemplateError that shows the expression."""
    with pytest.raises(TemplateError) as error:
        templating.render(text, NAMES)
    assert text in str(error.value)


def test_finds_references() -> None:
    """References are found in every text of a value, written with dots or brackets."""
    value = {"a": "{{ steps.level.value + steps['flow'].value }}", "b": ["{{ params.line }}"]}
    found = set(templating.references(value))
    assert found == {("steps", "level"), ("steps", "flow"), ("params", "line")}


@pytest.mark.parametrize("text", ["{{ secret }}", "{{ steps[params.line] }}", "{{ steps }}"])
def test_references_must_be_written_out(text: str) -> None:
    """A name that is only known at run time cannot be checked before, so it is refused."""
    with pytest.raises(TemplateError):
        list(templating.references(text))
