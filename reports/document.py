"""What a report is: figures, tables and charts in sections. Each format is made of this alone.

A report is built from queries into these frozen values; HTML, PDF, CSV and JSON are written from
them. Nothing in them may depend on when or where the report was made: the same period over the same
data gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from reports.period import Period

Kind = Literal["text", "count", "number", "seconds", "share", "time", "id", "state"]
"""What a value is: it decides how people read it. ``share`` is 0 to 1, ``seconds`` a duration."""
Cell = str | int | float | bool | datetime | None


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    """Its name in CSV and JSON, with the unit where there is one: ``p95_s``."""
    title: str
    kind: Kind = "text"


@dataclass(frozen=True)
class Table:
    """Rows under columns."""

    name: str
    """Its name in CSV and JSON, and its anchor in HTML."""
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    """A sentence on how to read it."""
    empty: str = "Nothing in this period."
    """What stands there when it has no rows."""
    most: int = 200
    """How many rows people are shown; CSV and JSON hold all."""


@dataclass(frozen=True)
class Figure:
    """One number that stands above all."""

    name: str
    title: str
    value: Cell
    kind: Kind = "count"
    before: Cell = None
    """The same of the period before, where it is compared."""
    better: Literal["more", "less"] | None = None
    """Whether more of it is better; None: neither."""


@dataclass(frozen=True)
class Series:
    """The values of one thing in a chart, one for each of the chart's labels."""

    title: str
    values: tuple[float | None, ...]
    colour: Literal["good", "bad", "warn", "plain", "other"] = "plain"


@dataclass(frozen=True)
class Bars:
    """Bars over labels, stacked where there are several series."""

    name: str
    title: str
    says: str
    """What it shows, in a sentence: for those who do not see it."""
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    unit: str = ""
    lying: bool = False
    """Whether the bars lie, one below another: for long labels."""


@dataclass(frozen=True)
class Lines:
    """Lines over labels; a value that is None leaves a gap."""

    name: str
    title: str
    says: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    unit: str = ""
    limit: float | None = None
    """A value that is drawn as a limit."""


@dataclass(frozen=True)
class Span:
    """Something that took its time, in a timeline."""

    row: str
    start_s: float
    end_s: float
    state: str
    text: str = ""


@dataclass(frozen=True)
class Timeline:
    """Spans over time, a row for each thing: a Gantt chart. Times are seconds from ``start``."""

    name: str
    title: str
    says: str
    start: datetime
    spans: tuple[Span, ...]


Chart = Bars | Lines | Timeline
Part = Table | Chart


@dataclass(frozen=True)
class Section:
    """Tables and charts under one heading."""

    title: str
    parts: tuple[Part, ...]
    text: str = ""


@dataclass(frozen=True)
class Document:
    """A whole report."""

    name: str
    title: str
    period: Period
    summary: tuple[str, ...] = ()
    """What is to be known, in sentences; the mail and the artifact show these too."""
    figures: tuple[Figure, ...] = ()
    sections: tuple[Section, ...] = ()
    subject: str = ""
    """What it is about beside the period: a job, a run, a device."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What JSON holds besides, such as evidence."""

    def tables(self) -> list[Table]:
        """Return all tables, in order."""
        return [p for s in self.sections for p in s.parts if isinstance(p, Table)]

    def charts(self) -> list[Chart]:
        """Return all charts, in order."""
        return [p for s in self.sections for p in s.parts if not isinstance(p, Table)]

    def table(self, name: str) -> Table:
        """Return a table by its name. Raises KeyError."""
        for table in self.tables():
            if table.name == name:
                return table
        raise KeyError(name)


def table_of(
    name: str,
    title: str,
    columns: Sequence[Column],
    items: Iterable[object],
    *,
    note: str = "",
    empty: str = "Nothing in this period.",
) -> Table:
    """Return a table of values whose attributes are named as the columns."""
    rows = tuple(tuple(getattr(item, column.name) for column in columns) for item in items)
    return Table(name, title, tuple(columns), rows, note, empty)
