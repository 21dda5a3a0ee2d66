"""Which reports there are, and how each is made.

To add one: a module in ``reports`` that names a ``REPORT``, a :class:`ReportKind`, and its line in
``BUILT_IN`` below. Its ``build`` gets the store, the period and what was asked for, makes queries,
and returns a :class:`reports.document.Document`: frozen figures, tables and charts. The formats,
the command, the schedule, the storing and the mail come by themselves. A report says nothing of
the moment it was made in: the same data gives the same bytes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from reports.document import Document
from reports.period import Period
from reports.period import Span as PeriodSpan
from smartops.audit.store import Store
from smartops.errors import BadInput

Format = Literal["html", "pdf", "csv", "json"]
FORMATS: tuple[Format, ...] = ("html", "pdf", "csv", "json")
MEDIA_TYPES: dict[Format, str] = {
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
}
Asked = Mapping[str, str]
"""What a report is asked about beside its period, such as ``{"job": "line-check"}``."""


@dataclass(frozen=True)
class ReportKind:
    """A report that can be asked for by its name."""

    name: str
    title: str
    description: str
    build: Callable[[Store, Period, Asked], Document]
    """Raises StoreUnavailable, BadInput."""
    span: PeriodSpan = "day"
    """What it is about when nobody says: the last whole day, week or month."""
    asks: Mapping[str, str] = field(default_factory=dict)
    """What else may be asked, by name, each with a sentence."""
    formats: tuple[Format, ...] = FORMATS
    """In which formats it is made and kept by its schedule."""
    attached: tuple[Format, ...] = ("html", "pdf")
    """Which of them its mail carries."""
    mail: tuple[str, ...] = ()
    """Who gets it when its schedule says nothing else."""
    mail_by: str = "reports"
    """The saved connection that sends it then."""


BUILT_IN = {
    "operations": "reports.operations",
    "job": "reports.job",
    "slo": "reports.slo",
    "devices": "reports.devices",
    "audit": "reports.audit_report",
}


def names() -> list[str]:
    """Return the names of all reports, users' own after those that every installation has."""
    from reports.own import files  # noqa: PLC0415 - it needs what is above

    return [*BUILT_IN, *(name for name in files.names() if name not in BUILT_IN)]


def find(name: str) -> ReportKind:
    """Return a report by its name. Raises BadInput."""
    if name in BUILT_IN:
        kind: ReportKind = importlib.import_module(BUILT_IN[name]).REPORT
        return kind
    from reports.own import building, files  # noqa: PLC0415 - see above

    path = files.find(name)
    if path is None:
        raise BadInput(
            f"there is no report {name!r}; there are: {', '.join(names())}",
            hint=f"Your own stand in {files.folder()}.",
        )
    return building.kind_of(path)


def build(store: Store, kind: ReportKind, period: Period, asked: Asked) -> Document:
    """Return the report. Raises StoreUnavailable; BadInput for what it cannot be asked."""
    for name in asked:
        if name not in kind.asks:
            known = ", ".join(kind.asks) or "its period alone"
            raise BadInput(f"the report {kind.name} cannot be asked for {name!r}: {known}")
    return kind.build(store, period, asked)


def rendered(document: Document, form: Format) -> bytes:
    """Return the report in a format. Raises MissingProgram and BrowserCrashed for a PDF."""
    if form == "json":
        from reports.as_data import as_json  # noqa: PLC0415 - each format has its own needs

        return as_json(document)
    if form == "csv":
        from reports.as_data import as_csv  # noqa: PLC0415

        return as_csv(document)
    if form == "pdf":
        from reports.as_pdf import as_pdf  # noqa: PLC0415

        return as_pdf(document)
    from reports.as_html import as_html  # noqa: PLC0415

    return as_html(document)
