"""A report as a mail: the summary as text, the page and the PDF beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from zoneinfo import ZoneInfo

from reports import wording
from reports.catalogue import MEDIA_TYPES, Format
from reports.document import Document


def message(
    document: Document,
    files: Mapping[Format, bytes],
    *,
    sender: str,
    to: Sequence[str],
    at: datetime,
) -> EmailMessage:
    """Return the mail, ready to be sent."""
    mail = EmailMessage()
    mail["Subject"] = " ".join(f"{document.title}, {document.period.label}".split())
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    mail["Date"] = format_datetime(at)
    mail["Message-ID"] = make_msgid("report", sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(as_text(document))
    for form, content in files.items():
        kind, _, charset = MEDIA_TYPES[form].partition("; charset=")
        main, _, sub = kind.partition("/")
        mail.add_attachment(
            content,
            maintype=main,
            subtype=sub,
            filename=f"{file_name(document)}.{form}",
            params={"charset": charset} if charset else {},
        )
    return mail


def as_text(document: Document) -> str:
    """Return the figures and the summary as plain text."""
    zone = document.period.zone
    lines = [f"{document.title}, {document.period.label}", ""]
    lines += [f"- {sentence}" for sentence in document.summary]
    lines.append("")
    for figure in document.figures:
        change = wording.change(figure, zone)
        shown = wording.shown(figure.value, figure.kind, zone)
        lines.append(f"{figure.title}: {shown}" + (f" ({change})" if change else ""))
    return "\n".join(lines) + "\n"


def as_markdown(document: Document) -> str:
    """Return the figures and the summary as Markdown, for Prefect's page of the run."""
    zone = document.period.zone
    lines = [f"# {document.title}", "", f"**{document.period.label}**", ""]
    lines += [f"- {_plain(sentence)}" for sentence in document.summary]
    if document.figures:
        lines += ["", "| | now | before |", "|---|---|---|"]
    for figure in document.figures:
        now = wording.shown(figure.value, figure.kind, zone)
        before = wording.shown(figure.before, figure.kind, zone)
        lines.append(f"| {figure.title} | {now} | {before} |")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Return a text in which nothing is markup: messages of failures come from outside."""
    escaped = "".join(f"\\{sign}" if sign in "\\`*_[]#|~" else sign for sign in text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;")


def file_name(document: Document) -> str:
    """Return the name of the report's files, without the ending."""
    period = document.period
    about = f"-{document.subject}" if document.subject else ""
    kept = "".join(sign if sign.isalnum() or sign in "-_." else "-" for sign in about)
    span = period.span or f"to-{period.end:%Y-%m-%d-%H%M}"
    first = period.start.astimezone(ZoneInfo(period.zone))
    return f"{document.name}{kept}-{first:%Y-%m-%d}-{span}"
