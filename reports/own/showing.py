"""Shows the rows of a query: its table, and its chart. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from reports import wording
from reports.document import Bars, Cell, Chart, Column, Kind, Lines, Part, Series, Table
from reports.own.spec import OwnChart, Query
from smartops.errors import BadInput

Row = Mapping[str, Any]
_MOST_BARS = 60


@dataclass(frozen=True)
class Answer:
    """What a query gave."""

    columns: list[str]
    rows: list[dict[str, Any]]

    def has(self, name: str) -> None:
        """Raise BadInput where it has no such column; no rows of Python have no columns at all."""
        if name not in self.columns and (self.columns or self.rows):
            known = ", ".join(self.columns)
            raise BadInput(f"there is no column {name!r}; there are: {known}")


def parts(query: Query, answer: Answer, zone: str) -> tuple[Part, ...]:
    """Return the table of a query, and its chart above it. Raises BadInput."""
    columns = _columns(query, answer)
    rows = tuple(tuple(_cell(row.get(c.name), c) for c in columns) for row in answer.rows)
    table = Table(query.name, query.title, columns, rows, query.note, query.empty)
    if query.chart is None or not rows:
        return (table,)
    return (_chart(query, query.chart, answer, zone), table)


def _columns(query: Query, answer: Answer) -> tuple[Column, ...]:
    if not query.columns:
        return tuple(Column(name, name, _looks_like(answer.rows, name)) for name in answer.columns)
    for column in query.columns:
        answer.has(column.name)
    return tuple(
        Column(c.name, c.title or c.name, c.kind or _looks_like(answer.rows, c.name))
        for c in query.columns
    )


def _looks_like(rows: Sequence[Row], name: str) -> Kind:
    types = {type(row.get(name)) for row in rows} - {type(None)}
    if types == {int}:
        return "count"
    if types and types <= {int, float}:
        return "number"
    return "time" if types == {datetime} else "text"


def _cell(value: Any, column: Column) -> Cell:
    if column.kind == "time" and isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise BadInput(f"column {column.name}: {value!r} is no time (ISO 8601)") from None
    return value  # type: ignore[no-any-return]


def _chart(query: Query, chart: OwnChart, answer: Answer, zone: str) -> Chart:
    for name in (chart.labels, *chart.values):
        answer.has(name)
    rows = answer.rows[:_MOST_BARS] if chart.kind == "bars" else answer.rows
    titles = {column.name: column.title or column.name for column in query.columns}
    labels = tuple(_label(row.get(chart.labels), zone) for row in rows)
    colours: tuple[Any, ...] = ("plain", "other", "good", "warn")
    series = tuple(
        Series(titles.get(name, name), tuple(_number(row.get(name), name) for row in rows), colour)
        for name, colour in zip(chart.values, colours, strict=False)
    )
    more = f" The first {len(rows)} of {len(answer.rows)}." if len(rows) < len(answer.rows) else ""
    says = (
        f"{', '.join(s.title for s in series)} by {titles.get(chart.labels, chart.labels)}.{more}"
    )
    name = f"{query.name}-chart"
    if chart.kind == "bars":
        return Bars(name, chart.title, says, labels, series, chart.unit, chart.lying)
    return Lines(name, chart.title, says, labels, series, chart.unit, chart.limit)


def _label(value: Any, zone: str) -> str:
    if isinstance(value, datetime):
        return wording.shown(value, "time", zone)[:16]
    return wording.shown(value, "text", zone)


def _number(value: Any, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadInput(f"chart: column {name}: {value!r} is no number")
    return float(value)
