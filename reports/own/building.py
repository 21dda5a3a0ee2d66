"""Makes a document of a report's file: asks its queries, and writes its words."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from reports.catalogue import Asked, ReportKind
from reports.document import Cell, Document, Section
from reports.own import asking, calling, files, functions, showing
from reports.own.showing import Answer
from reports.own.spec import OwnReport, Query
from reports.period import Period
from smartops.audit.store import Store
from smartops.errors import BadInput, FunctionFailed, PermanentError
from smartops.jobs.python_calls import check_allowed

_WRITE = "reports.own.words:written"


def kind_of(path: Path) -> ReportKind:
    """Return a report's file as a report that can be asked for. Raises BadInput."""
    report, revision = files.load(path), files.revision(path)

    def build(store: Store, period: Period, _asked: Asked) -> Document:
        return document(store, period, report, revision)

    return ReportKind(
        report.name,
        report.title,
        report.description,
        build,
        report.period,
        formats=report.formats,
        attached=report.attached,
        mail=report.mail,
        mail_by=report.mail_by,
    )


def document(store: Store, period: Period, report: OwnReport, revision: str) -> Document:
    """Return the report. Raises StoreUnavailable; BadInput and FunctionFailed, naming the query."""
    answers: dict[str, Answer] = {}
    for query in report.queries:
        with _named(report, query.name):
            answers[query.name] = _answer(store, period, report, query, answers)
    with _named(report, "words"):
        said = _words(report, period, answers)
    sections = []
    for number, query in enumerate(report.queries):
        if query.show:
            with _named(report, query.name):
                parts = showing.parts(query, answers[query.name], period.zone)
            text = " ".join(said.get(f"queries.{number}.text", "").split())
            sections.append(Section(query.title, parts, text))
    return Document(
        report.name,
        report.title,
        period,
        tuple(line.strip() for line in said.get("template", "").splitlines() if line.strip()),
        sections=tuple(sections),
        facts={"revision": revision},
    )


@contextmanager
def _named(report: OwnReport, part: str) -> Iterator[None]:
    """Say in an error which report and which part of it is meant."""
    try:
        yield
    except (BadInput, FunctionFailed) as error:
        kind: type[PermanentError] = type(error)
        raise kind(f"report {report.name}, {part}: {error}", hint=error.hint) from error


def _answer(
    store: Store, period: Period, report: OwnReport, query: Query, above: Mapping[str, Answer]
) -> Answer:
    if query.sql is not None:
        columns, rows = asking.rows(store, query.sql, period, most=query.rows, limit=report.limit)
        return Answer(columns, [{k: _plain(v) for k, v in row.items()} for row in rows])
    function = str(query.python)
    if function not in functions.READY:
        check_allowed(function)
    times = {"start": period.start.isoformat(), "end": period.end.isoformat()}
    given = {name: above[name].rows for name in query.given}
    found = calling.call(function, {**times, **query.args, **_sent(given)}, report.limit)
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise BadInput(f"{function} gives no list of objects")
    if len(found) > query.rows:
        raise BadInput(f"{function} gives more than {query.rows:,} rows")
    rows = [{str(k): _plain(v) for k, v in row.items()} for row in found]
    return Answer(list(dict.fromkeys(name for row in rows for name in row)), rows)


def _words(report: OwnReport, period: Period, answers: Mapping[str, Answer]) -> dict[str, str]:
    texts = report.texts()
    if not texts:
        return {}
    names = {name: answer.rows for name, answer in answers.items()}
    times = {"start": period.start, "end": period.end, "label": period.label, "zone": period.zone}
    asked = {"texts": texts, "names": _sent({**names, "period": times}), "zone": period.zone}
    found: dict[str, str] = calling.call(_WRITE, asked, report.limit)
    return found


def _sent(value: Any) -> Any:
    """Return rows as another process gets them: times as texts."""
    return json.loads(json.dumps(value, default=lambda moment: moment.isoformat()))


def _plain(value: Any) -> Cell:
    """Return a value as a cell: days are texts, lengths of time seconds, no number is nothing."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False)
    return value  # type: ignore[no-any-return]
