"""Reports as JSON, with every number as it was computed, and as CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from typing import Any
from uuid import UUID

from reports.document import Chart, Document, Section, Table, Timeline
from smartops.errors import BadInput


def as_json(document: Document) -> bytes:
    """Return the report as one JSON document: times are ISO 8601, durations seconds, ids texts."""
    text = json.dumps(_whole(document), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _whole(document: Document) -> dict[str, Any]:
    period = document.period
    return {
        "report": document.name,
        "title": document.title,
        "subject": document.subject,
        "from": period.start.isoformat(),
        "to": period.end.isoformat(),
        "zone": period.zone,
        "summary": list(document.summary),
        "figures": {
            figure.name: {"value": plain(figure.value), "before": plain(figure.before)}
            for figure in document.figures
        },
        "tables": {table.name: _rows(table) for table in document.tables()},
        "charts": {chart.name: _chart(chart) for chart in document.charts()},
        **({"facts": document.facts} if document.facts else {}),
    }


def _rows(table: Table) -> list[dict[str, Any]]:
    names = [column.name for column in table.columns]
    return [dict(zip(names, map(plain, row), strict=True)) for row in table.rows]


def _chart(chart: Chart) -> dict[str, Any]:
    if isinstance(chart, Timeline):
        return {"start": chart.start.isoformat(), "spans": [vars(span) for span in chart.spans]}
    series = {series.title: list(series.values) for series in chart.series}
    return {"labels": list(chart.labels), "series": series}


def plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def as_csv(document: Document, table: str | None = None) -> bytes:
    """Return one table as CSV; without a name all of them, each below a line with its title.

    Raises BadInput for a table that the report does not have.
    """
    known = {found.name: found for found in document.tables()}
    if table is not None and table not in known:
        raise BadInput(f"the report {document.name} has no table {table!r}: {', '.join(known)}")
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if table is not None:
        _write(writer, known[table])
    else:
        _write_all(writer, document)
    return text.getvalue().encode("utf-8-sig")  # Excel takes it for Latin-1 without the mark


def _write_all(writer: Any, document: Document) -> None:
    writer.writerow([document.title, document.subject])
    period = document.period
    writer.writerow([period.label, period.start.isoformat(), period.end.isoformat()])
    writer.writerows([figure.title, _csv(figure.value)] for figure in document.figures)
    for section in document.sections:
        for part in _tables(section):
            writer.writerow([])
            writer.writerow([part.title])
            _write(writer, part)


def _tables(section: Section) -> list[Table]:
    return [part for part in section.parts if isinstance(part, Table)]


def _write(writer: Any, table: Table) -> None:
    writer.writerow([column.name for column in table.columns])
    writer.writerows([_csv(value) for value in row] for row in table.rows)


def _csv(value: Any) -> Any:
    """Return a cell that a spreadsheet does not take for a formula."""
    found = plain(value)
    if isinstance(found, str) and found[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return f"'{found}"
    return "" if found is None else found
