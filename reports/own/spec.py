"""A report of one's own as it stands in its file: frozen models, no behaviour."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, FiniteFloat, JsonValue, field_validator, model_validator

from reports import catalogue
from reports.document import Kind
from reports.own import words
from reports.own.asking import problem_of
from reports.period import Span
from smartops.durations import Duration, duration_field
from smartops.jobs.kinds.python import FUNCTION_PATTERN
from smartops.jobs.scheduling import ZoneName
from smartops.vocabulary import ID_PATTERN, Strict

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]*$"
WORDS_OF_THE_COMMAND = ("list", "kept", "check", "apply")
"""What ``smartops report`` takes for something else than a report's name."""


class ReportSchedule(Strict):
    """When it is made by itself."""

    cron: str = Field(
        max_length=200,
        description="Five fields: minute, hour, day of month, month, weekday, as in `15 5 * * 1`.",
    )
    timezone: ZoneName = Field(default="UTC", description="An IANA name, such as `Europe/Berlin`.")

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, text: str) -> str:
        if len(text.split()) != 5:
            raise ValueError("cron has five fields: minute, hour, day of month, month, weekday")
        return text


class ShownColumn(Strict):
    """How a column of a query is shown."""

    name: str = Field(min_length=1, max_length=100, description="As the query names it.")
    title: str = Field(default="", max_length=100, description="Its heading. Empty: its name.")
    kind: Kind | None = Field(
        default=None,
        description="What its values are: `text`, `count`, `number`, `seconds`, `share` (0 to 1), "
        "`time`, `id` or `state`. Empty: what they look like.",
    )


class OwnChart(Strict):
    """A chart of a query's rows."""

    kind: Literal["bars", "lines"] = Field(description="`bars` or `lines`.")
    title: str = Field(min_length=1, max_length=200, description="Its heading.")
    labels: str = Field(description="The column that names the bars, or the points of the lines.")
    values: tuple[str, ...] = Field(
        min_length=1, max_length=4, description="The columns with the numbers, up to four."
    )
    unit: str = Field(default="", max_length=30, description="What stands beside the numbers.")
    lying: bool = Field(
        default=False, description="Whether bars lie, one below another: for long labels."
    )
    limit: FiniteFloat | None = Field(
        default=None, description="A number that is drawn as a limit, among lines."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.lying and self.kind != "bars":
            raise ValueError("lying goes with kind: bars")
        if self.limit is not None and self.kind != "lines":
            raise ValueError("limit goes with kind: lines")
        return self


class Query(Strict):
    """Where rows come from, and how they are shown: give exactly one of sql and python."""

    name: str = Field(
        pattern=ID_PATTERN, max_length=60, description="The table's name in CSV, JSON and words."
    )
    title: str = Field(min_length=1, max_length=200, description="The heading of its section.")
    sql: str | None = Field(
        default=None,
        max_length=20_000,
        description="One SELECT on the tables that may be read. It may name `:since` and `:until` "
        "(the period), `:since_key` and `:until_key` (the ids of these moments).",
    )
    python: str | None = Field(
        default=None,
        pattern=FUNCTION_PATTERN,
        max_length=300,
        description="Module and function that gives the rows, a list of objects; called with "
        "`start`, `end`, and what `args` and `given` say, in a process of its own. "
        "`SMARTOPS_PYTHON_PACKAGES` must allow its package.",
    )
    args: dict[str, JsonValue] = Field(
        default_factory=dict, description="With `python`: arguments by name."
    )
    given: tuple[str, ...] = Field(
        default=(),
        description="With `python`: queries above this one whose rows it gets, by their names.",
    )
    rows: int = Field(
        default=1000, ge=1, le=100_000, description="More rows than this are an error."
    )
    columns: tuple[ShownColumn, ...] = Field(
        default=(), description="Which columns are shown, in this order. Empty: all, as they come."
    )
    show: bool = Field(
        default=True, description="Whether it is shown, or its rows are only used by others."
    )
    text: str = Field(
        default="", max_length=10_000, description="Words below its heading; a template."
    )
    note: str = Field(
        default="", max_length=500, description="A sentence on how to read the table."
    )
    empty: str = Field(
        default="Nothing in this period.",
        max_length=500,
        description="What stands there when there are no rows.",
    )
    chart: OwnChart | None = Field(default=None, description="A chart of the rows.")

    @field_validator("sql")
    @classmethod
    def _may_be_asked(cls, text: str | None) -> str | None:
        if text is not None and (problem := problem_of(text)):
            raise ValueError(problem)
        return text

    @field_validator("text")
    @classmethod
    def _is_a_template(cls, text: str) -> str:
        words.names_in(text)
        return text

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.sql is None) == (self.python is None):
            raise ValueError("give exactly one of sql and python")
        for name in ("args", "given"):
            if self.python is None and getattr(self, name):
                raise ValueError(f"{name} goes with python")
        for name in ("columns", "text", "note", "chart"):
            if not self.show and getattr(self, name):
                raise ValueError(f"{name} goes with show: true")
        if clash := {"start", "end", *self.args} & set(self.given) or {"start", "end"} & set(
            self.args
        ):
            raise ValueError(f"argument {sorted(clash)[0]!r} is given twice")
        return self


class OwnReport(Strict):
    """A report of one's own."""

    name: str = Field(pattern=NAME_PATTERN, max_length=60, description="As its file is called.")
    title: str = Field(min_length=1, max_length=200, description="Its heading.")
    description: str = Field(
        min_length=1, max_length=500, description="What it tells, in a sentence."
    )
    period: Span = Field(
        default="day",
        description="What it is about when nobody says: the last whole `day`, `week` or `month`.",
    )
    schedule: ReportSchedule | None = Field(
        default=None, description="When it is made by itself. Empty: when somebody asks."
    )
    formats: tuple[catalogue.Format, ...] = Field(
        default=catalogue.FORMATS,
        min_length=1,
        description="In which formats it is made and kept: `html`, `pdf`, `csv`, `json`.",
    )
    mail: tuple[str, ...] = Field(
        default=(), description="Who gets it by mail when it is made by its schedule."
    )
    mail_by: str = Field(
        default="reports",
        min_length=1,
        max_length=100,
        description="The saved connection (Blocks, Alert Mail) whose mail server sends it.",
    )
    attach: tuple[catalogue.Format, ...] | None = Field(
        default=None,
        description="Which formats the mail carries. Empty: the page and the PDF, where made.",
    )
    limit: Duration = duration_field(
        "30s", description="How long each query may take, and the words together."
    )
    template: str = Field(
        default="",
        max_length=10_000,
        description="What is to be known, a sentence on each line: Jinja over the rows of the "
        "queries, by their names, and `period`.",
    )
    queries: tuple[Query, ...] = Field(
        min_length=1, max_length=20, description="What it is made of, in order."
    )

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name in {*catalogue.BUILT_IN, *WORDS_OF_THE_COMMAND}:
            raise ValueError(f"{name!r} is taken: choose another name")
        return name

    @field_validator("mail")
    @classmethod
    def _addresses(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for address in given:
            if address.count("@") != 1 or not address.isprintable() or " " in address:
                raise ValueError(f"{address!r} is no mail address")
        return given

    @field_validator("template")
    @classmethod
    def _is_a_template(cls, text: str) -> str:
        words.names_in(text)
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [query.name for query in self.queries]
        if len(set(names)) < len(names) or "period" in names:
            raise ValueError("queries: each has a name of its own, and none is `period`")
        for number, query in enumerate(self.queries):
            for name in query.given:
                if name not in names[:number]:
                    raise ValueError(f"queries.{number}.given: there is no query {name!r} above it")
        for where, text in self.texts().items():
            for name in sorted(words.names_in(text) - {*names, "period"}):
                known = ", ".join([*names, "period"])
                raise ValueError(f"{where}: {name!r} is unknown; there are: {known}")
        for form in self.attach or ():
            if form not in self.formats:
                raise ValueError(f"attach: {form} is not among the formats")
        return self

    def texts(self) -> dict[str, str]:
        """Return all templates by where they stand."""
        own = {f"queries.{n}.text": query.text for n, query in enumerate(self.queries)}
        return {where: text for where, text in {"template": self.template, **own}.items() if text}

    @property
    def attached(self) -> tuple[catalogue.Format, ...]:
        """Which formats a mail carries."""
        if self.attach is not None:
            return self.attach
        return tuple(form for form in self.formats if form in {"html", "pdf"})
