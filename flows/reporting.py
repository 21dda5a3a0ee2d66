"""Makes a report on a schedule: keeps it, shows it in Prefect, and mails it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from prefect import flow, get_run_logger
from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_table_artifact,
)

from blocks import AlertMail
from blocks.connection import load_connection
from reports import catalogue, mail
from reports.as_data import plain
from reports.catalogue import Format
from reports.document import Document
from reports.period import Period, between
from smartops import audited
from smartops.audit import kept_reports, shipping
from smartops.audit.store import Store
from smartops.errors import SmartOpsError
from smartops.settings import get_settings

_MAIL_AGAIN = "Check the connection under Blocks; then run the report again."
_MOST_ROWS = 50


@dataclass(frozen=True)
class Made:
    """A report in its formats, each with the hash under which it is kept."""

    document: Document
    files: dict[Format, bytes]
    hashes: dict[str, str]
    page: Path | None
    """The page as a file in the home folder, where it is made as a page."""
    attached: tuple[Format, ...] = ("html", "pdf")
    """Which of the formats a mail carries."""


@flow(name="report", persist_result=False, retries=0)
@audited
async def report(
    name: str = "operations",
    span: Literal["day", "week", "month"] | None = None,
    start: str | None = None,
    end: str | None = None,
    about: dict[str, str] | None = None,
    to: list[str] | None = None,
    mail_by: str | None = None,
    pdf: bool = True,
) -> dict[str, Any]:
    """Make a report, keep it in the database, show it beside the run, and mail it.

    Args:
        name: Which report; `smartops report list` names them.
        span: Its period where no start is given: the last whole day, week or month. Empty: the
            report's own.
        start: The first day or moment, such as 2026-11-21.
        end: The last day, or the moment that it goes up to.
        about: What it is about, such as {"job": "line-check"}.
        to: Who gets it by mail. Not given: those whom the report's file names.
        mail_by: The saved connection (Blocks, Alert Mail) whose mail server sends it. Not given:
            the one that the report's file names, else `reports`.
        pdf: Whether it is printed as well; needs a browser.
    """
    zone = get_settings().report_timezone
    kind = await asyncio.to_thread(catalogue.find, name)
    period = between(start, end, zone, span or kind.span, datetime.now(UTC))
    made = await asyncio.to_thread(_make, name, period, about or {}, pdf)
    await _show(made)
    if receivers := list(kind.mail) if to is None else to:
        await _mail(made, receivers, mail_by or kind.mail_by)
    get_run_logger().info("%s, %s: %s", name, period.label, " ".join(made.document.summary))
    return {"report": name, "from": period.start.isoformat(), "kept": made.hashes}


def _make(name: str, period: Period, about: dict[str, str], pdf: bool) -> Made:
    settings = get_settings()
    store = Store(settings.store_url)
    try:
        shipping.ship_all(store, settings.journal_dir)
        return make(name, period, about, store=store, pdf=pdf)
    finally:
        store.close()


def make(name: str, period: Period, about: dict[str, str], *, store: Store, pdf: bool) -> Made:
    """Make a report in all formats, and keep them. Raises StoreUnavailable, BadInput."""
    kind = catalogue.find(name)
    forms = [form for form in kind.formats if pdf or form != "pdf"]
    document = catalogue.build(store, kind, period, about)
    files = {form: catalogue.rendered(document, form) for form in forms}
    times = (period.start, period.end)
    hashes = {
        str(form): kept_reports.keep(store, name, times, catalogue.MEDIA_TYPES[form], content)
        for form, content in files.items()
    }
    page = None
    if "html" in files:
        page = get_settings().reports_dir / name / f"{mail.file_name(document)}.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_bytes(files["html"])
    return Made(document, files, hashes, page, kind.attached)


async def _show(made: Made) -> None:
    """Put the summary, the first table and where to get the page beside the run in Prefect."""
    document = made.document
    key = f"report-{document.name}"
    about = f"{document.title}, {document.period.label}"
    text = f"{mail.as_markdown(document)}\n{how_to_get(made)}"
    await acreate_markdown_artifact(text, key=key, description=about)
    for table in document.tables()[:1]:
        names = [column.title for column in table.columns]
        rows = [dict(zip(names, map(plain, row), strict=False)) for row in table.rows[:_MOST_ROWS]]
        if rows:
            part = table.name.replace("_", "-")
            await acreate_table_artifact(rows, key=f"{key}-{part}", description=about)
    if (link := link_to(made)) is not None:
        await acreate_link_artifact(link, key=f"{key}-page", description=about)


def link_to(made: Made) -> str | None:
    """Return where a browser opens the page, None where nobody serves the folder of the pages."""
    base = get_settings().report_url
    if not base or made.page is None:
        return None
    return f"{base.rstrip('/')}/{quote(made.document.name)}/{quote(made.page.name)}"


def how_to_get(made: Made) -> str:
    """Return, as Markdown, the commands that give the report as it was made."""
    name = mail.file_name(made.document)
    lines = [
        f"    smartops report kept --hash {digest[:12]} -o {name}.{form}"
        for form, digest in made.hashes.items()
    ]
    return "\n".join(["As it was made, from anywhere with the same database:", "", *lines, ""])


async def _mail(made: Made, to: list[str], name: str) -> None:
    """Mail it by a saved connection. Raises UnknownBlock, and as the mail server does."""
    with _kept_all_the_same(name):
        by = await load_connection(AlertMail, name)
    await asyncio.to_thread(send, made, to, by)


@contextmanager
def _kept_all_the_same(name: str) -> Iterator[None]:
    try:
        yield
    except SmartOpsError as error:
        by = f"{AlertMail.get_block_type_slug()}/{name}"
        text = f"the report was kept, and not mailed by {by}: {error}"
        raise type(error)(text, hint=error.hint or _MAIL_AGAIN) from error


def send(made: Made, to: list[str], by: AlertMail) -> None:
    """Mail what the report's mails carry. Raises as the mail server does."""
    files = {form: made.files[form] for form in made.attached if form in made.files}
    letter = mail.message(made.document, files, sender=by.sender, to=to, at=datetime.now(UTC))
    with _kept_all_the_same(by.connection_name):
        by.server().hand_in(letter, tuple(to))
