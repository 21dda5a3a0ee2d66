"""Cells of tables as typed values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from smartops.errors import ExpectationFailed
from smartops.page_table import Column, ReadTable, parse, typed_rows

GOOD: list[tuple[dict[str, Any], str, Any]] = [
    ({}, "some text", "some text"),
    ({}, "", ""),
    ({"optional": True}, "", None),
    ({"type": "integer"}, "-12", -12),
    ({"type": "integer", "thousands": "."}, "1.234.567", 1_234_567),
    ({"type": "integer", "thousands": " "}, "1\u202f234", 1234),
    ({"type": "integer", "unit": "kg"}, "12 kg", 12),
    ({"type": "integer"}, "\u22125", -5),
    ({"type": "number"}, "1.5", 1.5),
    ({"type": "number", "thousands": ","}, "1,234.5", 1234.5),
    ({"type": "number", "decimal": ",", "thousands": "."}, "-1.234,5", -1234.5),
    ({"type": "number", "thousands": "'", "unit": "CHF"}, "12'345.60 CHF", 12345.6),
    ({"type": "date"}, "2026-04-05", "2026-04-05"),
    ({"type": "date", "format": "%d.%m.%Y"}, "05.04.2026", "2026-04-05"),
    ({"type": "datetime"}, "2026-04-05T06:07:08+02:00", "2026-04-05T06:07:08+02:00"),
    ({"type": "datetime", "format": "%d/%m/%y %H:%M"}, "05/04/26 06:07", "2026-04-05T06:07:00"),
    ({"type": "boolean"}, "yes", True),
    ({"type": "boolean", "true": "on", "false": "off"}, "off", False),
    ({"type": "integer", "optional": True}, "", None),
]
BAD: list[tuple[dict[str, Any], str]] = [
    ({"type": "integer"}, ""),
    ({"type": "integer"}, "1.5"),
    ({"type": "integer"}, "1.234"),
    ({"type": "integer"}, "1_000"),
    ({"type": "integer"}, "²"),
    ({"type": "integer", "thousands": "."}, "12.34"),
    ({"type": "number"}, "1,5"),
    ({"type": "number"}, "nan"),
    ({"type": "number"}, "inf"),
    ({"type": "number", "decimal": ","}, "1.5"),
    ({"type": "number", "thousands": ","}, "1,5"),
    ({"type": "date"}, "05.04.2026"),
    ({"type": "date", "format": "%d.%m.%Y"}, "31.02.2026"),
    ({"type": "datetime"}, "yesterday"),
    ({"type": "boolean"}, "perhaps"),
]


@pytest.mark.parametrize(("column", "text", "value"), GOOD)
def test_cells(column: dict[str, Any], text: str, value: Any) -> None:
    """Each type, in the ways in which pages write it."""
    assert parse(Column(name="a", **column), text) == value


@pytest.mark.parametrize(("column", "text"), BAD)
def test_cells_of_another_type(column: dict[str, Any], text: str) -> None:
    """What might be read in two ways is refused."""
    with pytest.raises(ValueError, match=r"."):
        parse(Column(name="a", **column), text)


@given(st.integers(-(10**12), 10**12), st.sampled_from(["", ",", ".", "'", " "]))
def test_integers_come_back(value: int, thousands: str) -> None:
    """However they are grouped."""
    column = Column(name="a", type="integer", thousands=thousands)
    assert parse(column, f"{value:,}".replace(",", thousands)) == value


def schema(*columns: dict[str, Any], **more: Any) -> ReadTable:
    return ReadTable.model_validate({"target": {"css": "table"}, "columns": columns, **more})


def test_columns() -> None:
    """By heading, whatever its blanks and its case, or by number; a heading given twice is none."""
    head, rows = ["Batch", "Unit\n price", "x", "x"], [["b", "2", "3", "4"], ["c"]]
    wanted = schema({"name": "batch"}, {"name": "p", "header": "unit price"})
    assert typed_rows(wanted, head, rows, "t")[0] == {"batch": "b", "p": "2"}
    by_number = schema({"name": "last", "index": 3})
    assert typed_rows(by_number, head, rows, "t") == [{"last": "4"}, {"last": ""}]
    for name, said in (("x", "several columns are headed 'x'"), ("y", "no column is headed 'y'")):
        with pytest.raises(ExpectationFailed, match=said):
            typed_rows(schema({"name": name}), head, rows, "t")


@pytest.mark.parametrize(
    "column",
    [
        {"header": "a", "index": 1},
        {"type": "integer", "decimal": ","},
        {"type": "text", "thousands": ","},
        {"type": "number", "thousands": "."},
        {"type": "integer", "format": "%d"},
        {"type": "date", "true": "x"},
        {"type": "date", "unit": "x"},
    ],
)
def test_what_has_no_meaning(column: dict[str, Any]) -> None:
    """An option that would have no effect is refused."""
    with pytest.raises(ValidationError):
        Column(name="a", **column)
