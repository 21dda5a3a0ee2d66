"""Reports as one HTML file: no network, no script, light and dark, also for phones and paper."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from reports import charts, wording
from reports.document import Chart, Document, Part, Table

if TYPE_CHECKING:
    from jinja2 import Template

_PAGES = Path(__file__).with_name("pages")


@cache
def _page() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415

    environment = Environment(
        loader=FileSystemLoader(_PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html")


def as_html(document: Document) -> bytes:
    """Return the report as a page that needs nothing else. Needs matplotlib for its charts."""
    zone = document.period.zone
    text = _page().render(
        report=document,
        style=(_PAGES / "report.css").read_text("utf-8"),
        shown=partial(_shown, zone=zone),
        change=lambda figure: wording.change(figure, zone),
        turn=wording.turn,
        is_table=_is_table,
        svg=lambda chart: _svg(chart, zone),
        moment=lambda at: wording.shown(at, "time", zone),
    )
    return text.encode()


def _shown(value: object, kind: str, zone: str) -> str:
    return wording.shown(value, kind, zone)  # type: ignore[arg-type]


def _is_table(part: Part) -> bool:
    return isinstance(part, Table)


def _svg(chart: Chart, zone: str) -> str:
    return charts.svg(chart, zone)
