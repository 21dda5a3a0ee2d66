"""The checks that are on record, and the static pages that show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa

from reports.quality.page import Part, check_page, render
from reports.quality.results import WORST_FIRST, Result, Status, worst
from smartops.audit import models
from smartops.audit.store import Store

_COLUMNS = tuple(field.name for field in fields(Result))


@dataclass(frozen=True)
class Check:
    """One check of a suite, as it stands on record."""

    suite: str
    run_id: UUID
    step_run_id: UUID | None
    at: datetime
    results: list[Result]

    @property
    def status(self) -> Status:
        """The worst status of its expectations."""
        return worst([result.status for result in self.results])


def checks(store: Store, since: datetime) -> list[Check]:
    """Return the checks since a moment, the newest first. Raises StoreUnavailable."""
    table = models.quality_result
    query = sa.select(table).where(table.c.at >= since).order_by(table.c.at, table.c.id)
    found: dict[tuple[str, UUID, UUID | None], Check] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            key = (row.suite, row.run_id, row.step_run_id)
            check = found.setdefault(key, Check(row.suite, row.run_id, row.step_run_id, row.at, []))
            check.results.append(Result(**{name: getattr(row, name) for name in _COLUMNS}))
    return sorted(found.values(), key=lambda check: check.at, reverse=True)


def write_pages(store: Store, folder: Path, now: datetime, days: int) -> list[Path]:
    """Write a page for each suite, and one that leads to them; return the files.

    Raises StoreUnavailable; OSError where the folder cannot be written.
    """
    found = checks(store, now - timedelta(days=days))
    folder.mkdir(parents=True, exist_ok=True)
    pages = {"index": _index(found, now, days)}
    for name in sorted({check.suite for check in found}):
        newest = next(check for check in found if check.suite == name)
        about = f"Run {newest.run_id}."
        pages[name] = check_page(name, newest.at, newest.results, (), about)
    written = [folder / f"{name}.html" for name in pages]
    for path, html in zip(written, pages.values(), strict=True):
        path.write_text(f"{html}\n", "utf-8")
    return written


def _index(found: Sequence[Check], now: datetime, days: int) -> str:
    names = sorted({check.suite for check in found})
    newest = [next(check for check in found if check.suite == name) for name in names]
    own = {status: sum(check.status == status for check in newest) for status in WORST_FIRST}
    lead = ", ".join(f"{count} {status}" for status, count in own.items() if count)
    columns = ("suite", "status", "expectations", "not met", "looked at")
    suites = Part("Suites", columns, [_row(c) for c in newest], link="suite", numbers=columns[2:4])
    history = Part(
        "History", (*columns, "run"), [_row(c) for c in found], link="suite", numbers=columns[2:4]
    )
    about = f"The last check of each suite in {days} days until {now:%Y-%m-%d %H:%M UTC}."
    return render("Data quality", lead or "nothing was checked", about, [suites, history])


def _row(check: Check) -> dict[str, str]:
    return {
        "suite": check.suite,
        "status": check.status,
        "expectations": str(len(check.results)),
        "not met": str(sum(result.status != "passed" for result in check.results)),
        "looked at": f"{check.at:%Y-%m-%d %H:%M:%S UTC}",
        "run": str(check.run_id),
    }
