"""A table of a page as typed rows: its schema, and the reading of its cells. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field, model_validator

from smartops.errors import ExpectationFailed
from smartops.page_target import OutputName, PageAction, Target
from smartops.vocabulary import Strict

_MOST_ROWS = 100_000
_SPACES = {" ", "\u00a0", "\u2009", "\u202f"}


class Column(Strict):
    """One column of a table: where it is, and what its cells are."""

    name: OutputName = Field(title="Name", description="The name of its value in each row.")
    header: str | None = Field(
        default=None, title="Header", description="Its heading on the page. Empty: the name."
    )
    index: int | None = Field(
        default=None, ge=0, title="Index", description="In place of a header: which column, from 0."
    )
    type: Literal["text", "integer", "number", "date", "datetime", "boolean"] = Field(
        default="text", title="Type", description="What its cells are."
    )
    decimal: Literal[".", ","] = Field(
        default=".", title="Decimal", description="The decimal sign of its numbers."
    )
    thousands: Literal["", ",", ".", "'", " "] = Field(
        default="", title="Thousands", description="What stands between the thousands."
    )
    unit: str = Field(
        default="", title="Unit", description="A text behind each number that is left out, as kg."
    )
    format: str | None = Field(
        default=None,
        title="Format",
        description="How dates and times are written, such as %d.%m.%Y. Empty: ISO 8601.",
    )
    true: str = Field(
        default="yes", title="True", description="What a boolean cell says when it is true."
    )
    false: str = Field(
        default="no", title="False", description="What a boolean cell says when it is false."
    )
    optional: bool = Field(
        default=False, title="Optional", description="Whether its cells may be empty (null)."
    )

    @model_validator(mode="after")
    def _fits_its_type(self) -> Column:
        given = self.model_fields_set
        if self.header is not None and self.index is not None:
            raise ValueError("give a header or an index")
        numeric = self.type in {"integer", "number"}
        for names, fits in (
            ({"thousands", "unit"}, numeric),
            ({"decimal"}, self.type == "number"),
            ({"format"}, self.type in {"date", "datetime"}),
            ({"true", "false"}, self.type == "boolean"),
        ):
            for name in sorted(names & given):
                if not fits:
                    raise ValueError(f"{name} has no meaning for type {self.type}")
        if self.type == "number" and self.decimal == self.thousands:
            raise ValueError("decimal and thousands are the same sign")
        return self


class ReadTable(PageAction):
    """Take a table as rows of typed values."""

    do: Literal["table"] = "table"
    target: Target = Field(title="Target", description="The table.")
    columns: tuple[Column, ...] = Field(
        min_length=1, title="Columns", description="The columns to take, and their types."
    )
    output: OutputName = Field(
        default="rows",
        title="Output",
        description="Name of the output: steps.<id>.values.<output> is a list of rows.",
    )
    min_rows: int = Field(
        default=0, ge=0, title="At least", description="The least number of rows."
    )
    max_rows: int = Field(
        default=10_000, ge=1, le=_MOST_ROWS, title="At most", description="The most rows."
    )
    keep: bool = Field(
        default=False, title="Keep", description="Keep it as a CSV file in the evidence as well."
    )

    @model_validator(mode="after")
    def _names_once(self) -> ReadTable:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("two columns have the same name")
        if self.min_rows > self.max_rows:
            raise ValueError("min_rows is more than max_rows")
        return self


Row = dict[str, Any]


def typed_rows(
    schema: ReadTable, head: Sequence[str], rows: Sequence[Sequence[str]], what: str
) -> list[Row]:
    """Return the rows as the schema says. Dates and times are ISO 8601 texts.

    Raises ExpectationFailed for a column that is not there, a cell that is not of its type (with
    its row, from 1), and too few or too many rows.
    """
    if not schema.min_rows <= len(rows) <= schema.max_rows:
        raise ExpectationFailed(
            f"{what}: the table has {len(rows)} rows, and {schema.min_rows} to {schema.max_rows} "
            "are expected"
        )
    places = [(column, _place(column, head, what)) for column in schema.columns]
    found = []
    for number, cells in enumerate(rows, start=1):
        row: Row = {}
        for column, place in places:
            text = cells[place].strip() if place < len(cells) else ""
            try:
                row[column.name] = parse(column, text)
            except ValueError as error:
                raise ExpectationFailed(
                    f"{what}: row {number}, column {column.name}: {error}"
                ) from None
        found.append(row)
    return found


def _place(column: Column, head: Sequence[str], what: str) -> int:
    if column.index is not None:
        return column.index
    wanted = " ".join((column.header or column.name).split()).casefold()
    titles = [" ".join(title.split()).casefold() for title in head]
    if titles.count(wanted) != 1:
        problem = "several columns are" if wanted in titles else "no column is"
        raise ExpectationFailed(
            f"{what}: {problem} headed {column.header or column.name!r}; there are: "
            f"{', '.join(head) or 'none'}"
        )
    return titles.index(wanted)


def parse(column: Column, text: str) -> Any:
    """Return a cell's value. Raises ValueError with what is wrong."""
    if not text:
        if column.optional:
            return None
        if column.type == "text":
            return ""
        raise ValueError("it is empty")
    return _PARSERS[column.type](column, text)


def _digits(column: Column, text: str) -> str:
    plain = text
    if column.unit and plain.endswith(column.unit):
        plain = plain[: -len(column.unit)].rstrip()
    plain = plain.replace("\u2212", "-")
    if column.thousands:
        decimal = column.decimal if column.type == "number" else "\0"
        whole, sign, rest = plain.partition(decimal)
        for space in _SPACES if column.thousands == " " else {column.thousands}:
            whole = whole.replace(space, " ")
        groups = whole.split(" ")
        if len(groups) > 1 and any(len(group) != 3 for group in groups[1:]):
            raise ValueError(f"{text!r} is no number with {column.thousands!r} between thousands")
        plain = "".join(groups) + sign + rest
    return plain


def _integer(column: Column, text: str) -> int:
    plain = _digits(column, text)
    if not plain.lstrip("+-").isascii() or not plain.lstrip("+-").isdigit():
        raise ValueError(f"{text!r} is no integer")
    return int(plain)


def _number(column: Column, text: str) -> float:
    plain = _digits(column, text)
    if column.decimal == ",":
        if "." in plain:
            raise ValueError(f"{text!r} is no number with a decimal comma")
        plain = plain.replace(",", ".")
    try:
        value = float(plain) if plain.isascii() and "_" not in plain else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no number")
    return value


def _date(column: Column, text: str) -> str:
    try:
        if column.format:
            return datetime.strptime(text, column.format).date().isoformat()  # noqa: DTZ007
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is no date like {column.format or 'YYYY-MM-DD'}") from None


def _datetime(column: Column, text: str) -> str:
    try:
        if column.format:
            return datetime.strptime(text, column.format).isoformat()  # noqa: DTZ007 - as it says
        return datetime.fromisoformat(text).isoformat()
    except ValueError:
        raise ValueError(f"{text!r} is no time like {column.format or 'ISO 8601'}") from None


def _boolean(column: Column, text: str) -> bool:
    if text not in {column.true, column.false}:
        raise ValueError(f"{text!r} is neither {column.true!r} nor {column.false!r}")
    return text == column.true


_PARSERS: Mapping[str, Callable[[Column, str], Any]] = {
    "text": lambda _column, text: text,
    "integer": _integer,
    "number": _number,
    "date": _date,
    "datetime": _datetime,
    "boolean": _boolean,
}
