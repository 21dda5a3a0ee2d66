"""What checks have found, as static pages: one file each, nothing from the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.quality.results import WORST_FIRST, BadRow, Result
from smartops import redact
from smartops.jobs.step import shorten

STATES = {"passed": "✓", "warned": "!", "failed": "✗"}
"""Each status with a mark, so that its colour is not all that tells it."""
WHY = "kept apart because"
MOST_ROWS_SHOWN = 50
_NUMBERS = ("rows", "bad", "bad %", "warn above %", "fail above %", "#")


@dataclass(frozen=True)
class Part:
    """A table of a page. ``link`` names the column whose texts are the names of other pages."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    text: str = ""
    link: str = ""
    numbers: Sequence[str] = _NUMBERS


def render(title: str, lead: str, about: str, parts: Sequence[Part]) -> str:
    """Return a page."""
    folder = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=folder, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html").render(
        title=title, lead=lead, about=about, parts=parts, states=STATES
    )


def check_page(
    suite: str, at: datetime, results: Sequence[Result], bad_rows: Sequence[BadRow], about: str = ""
) -> str:
    """Return the page of one check: every expectation, the worst first, and the bad rows."""
    counts = {status: sum(r.status == status for r in results) for status in WORST_FIRST}
    lead = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    parts = [_results(name, results) for name in dict.fromkeys(r.dataset for r in results)]
    parts += [
        _bad(name, [row for row in bad_rows if row.dataset == name])
        for name in dict.fromkeys(row.dataset for row in bad_rows)
    ]
    when = at.strftime("%Y-%m-%d %H:%M:%S UTC")
    return render(f"Data quality: {suite}", lead, f"Looked at {when}. {about}".strip(), parts)


def _results(name: str, results: Sequence[Result]) -> Part:
    columns = ("status", "found", "rows", "bad", "bad %", "warn above %", "fail above %")
    own = sorted(
        (result for result in results if result.dataset == name),
        key=lambda result: WORST_FIRST.index(result.status),
    )
    rows = [
        {
            "status": result.status,
            "found": result.sentence,
            "rows": f"{result.checked_rows:,}",
            "bad": f"{result.bad_rows:,}",
            "bad %": _share(result.bad_share),
            "warn above %": _share(result.warn_above),
            "fail above %": _share(result.fail_above),
        }
        for result in own
    ]
    return Part(name, columns, rows)


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _bad(name: str, bad_rows: Sequence[BadRow]) -> Part:
    shown = [redact.scrub(bad.row) for bad in bad_rows[:MOST_ROWS_SHOWN]]
    columns = list(dict.fromkeys(key for row in shown for key in row))
    rows = [
        {
            **{key: shorten(row.get(key, "")) for key in columns},
            "#": str(bad.number),  # after the row's own: no column of it may take their place
            WHY: redact.text("; ".join(bad.reasons)),
        }
        for bad, row in zip(bad_rows, shown, strict=False)
    ]
    more = len(bad_rows) - len(shown)
    text = f"The first {len(shown)} of {len(bad_rows)}." if more else ""
    return Part(f"Bad rows of {name}", ("#", *columns, WHY), rows, text)
