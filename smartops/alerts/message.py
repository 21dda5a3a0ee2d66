"""What a message says: a subject, the same text plain and as HTML. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Literal
from uuid import UUID

from smartops.alerts.finding import NO_ID

Kind = Literal["raised", "repeated", "escalated", "recovered", "test"]
_WORDS: dict[str, str] = {
    "repeated": "still open",
    "escalated": "not acknowledged",
    "recovered": "recovered",
    "test": "test",
}
_COLOURS = {"info": "#1f6feb", "warning": "#9a6700", "critical": "#b42318"}
_WELL = "#1a7f37"
_MOST_IN_SUBJECT = 3


@dataclass(frozen=True)
class Said:
    """An alert as a message tells of it."""

    id: UUID
    rule: str
    severity: str
    title: str
    lines: tuple[tuple[str, str], ...]
    count: int
    raised_at: datetime
    ended_at: datetime | None = None
    run_id: UUID = NO_ID
    runbook: str = ""
    check: tuple[str, ...] = ()
    link: str = ""
    """Where the run can be looked at."""


@dataclass(frozen=True)
class Message:
    """What is sent on a channel."""

    key: UUID
    """The same for each attempt: whoever gets it twice can tell."""
    kind: Kind
    severity: str
    subject: str
    text: str
    html: str
    thread: UUID
    """The alert whose first message this one follows."""


def compose(
    key: UUID, kind: Kind, alerts: Sequence[Said], *, instead_of: str = "", host: str = ""
) -> Message:
    """Return the message about some alerts; the gravest decides how it looks.

    ``instead_of`` is the channel that failed, ``host`` the machine that sends.
    """
    order = list(_COLOURS)
    severity = max((said.severity for said in alerts), key=order.index)
    subject = f"[{_WORDS.get(kind, severity)}] {_subject(alerts)}"
    foot = [f"Sent by SmartOps{f' on {host}' if host else ''}; message {key}."]
    if instead_of:
        foot.insert(0, f"It comes this way as {instead_of} could not be reached.")
    text = "\n\n".join([*(_text(said, kind) for said in alerts), "\n".join(foot)])
    colour = _WELL if kind == "recovered" else _COLOURS[severity]
    html = _page(subject, "".join(_html(said, kind, colour) for said in alerts), foot)
    return Message(key, kind, severity, subject, text + "\n", html, alerts[0].id)


def _subject(alerts: Sequence[Said]) -> str:
    if len(alerts) == 1:
        again = f" ({alerts[0].count} times)" if alerts[0].count > 1 else ""
        return f"{alerts[0].title}{again}"
    named = "; ".join(said.title for said in alerts[:_MOST_IN_SUBJECT])
    more = "; ..." if len(alerts) > _MOST_IN_SUBJECT else ""
    return f"{len(alerts)} alerts: {named}{more}"


def _lines(said: Said, kind: Kind) -> list[tuple[str, str]]:
    """Return what is known of an alert, a word and a text each."""
    lines = list(said.lines)
    if said.count > 1:
        lines.append(("Times", str(said.count)))
    lines.append(("Since", f"{said.raised_at:%Y-%m-%d %H:%M:%S %Z}"))
    if kind == "recovered" and said.ended_at is not None:
        lines.append(("Recovered", f"{said.ended_at:%Y-%m-%d %H:%M:%S %Z}"))
    if said.link:
        lines.append(("Look at it", said.link))
    if said.run_id != NO_ID:
        lines.append(("Record", f"smartops run show {said.run_id}"))
    lines.append(("Rule", f"{said.rule} ({said.severity})"))
    if kind not in {"recovered", "test"}:
        lines.append(("Acknowledge", f"smartops alert ack {said.id}"))
    return lines


def _text(said: Said, kind: Kind) -> str:
    parts = [said.title, ""]
    parts += [f"{word + ':':<16}{text}" for word, text in _lines(said, kind)]
    if kind != "recovered":
        if said.check:
            parts += ["", "What to check:", *(f"  {n}. {t}" for n, t in enumerate(said.check, 1))]
        if said.runbook:
            parts += ["", "Runbook:", said.runbook.strip()]
    return "\n".join(parts)


def _html(said: Said, kind: Kind, colour: str) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(word)}</th><td>{_linked(text)}</td></tr>'
        for word, text in _lines(said, kind)
    )
    more = ""
    if kind != "recovered" and said.check:
        items = "".join(f"<li>{escape(text)}</li>" for text in said.check)
        more += f"<h2>What to check</h2><ol>{items}</ol>"
    if kind != "recovered" and said.runbook:
        more += f"<h2>Runbook</h2><p>{_linked(said.runbook.strip()).replace(chr(10), '<br>')}</p>"
    return (
        f'<section style="border-left:6px solid {colour}"><h1>{escape(said.title)}</h1>'
        f"<table>{rows}</table>{more}</section>"
    )


def _linked(text: str) -> str:
    """Return a text, as a link where it is an address."""
    safe = escape(text)
    if text.startswith(("https://", "http://")) and not set(text) & set(" \n<>"):
        return f'<a href="{safe}">{safe}</a>'
    return safe


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:0;padding:16px;color:#1f2328;"
    "background:#fff;max-width:46em}"
    "section{padding:4px 16px;margin:0 0 20px;background:#f6f8fa}"
    "h1{font-size:19px;margin:8px 0}h2{font-size:15px;margin:16px 0 4px}"
    "table{border-collapse:collapse}th{text-align:left;vertical-align:top;font-weight:600;"
    "padding:2px 16px 2px 0;white-space:nowrap}td{padding:2px 0;overflow-wrap:anywhere}"
    "footer{color:#59636e;font-size:13px}"
    "@media(prefers-color-scheme:dark){body{background:#0d1117;color:#f0f6fc}"
    "section{background:#151b23}a{color:#4493f8}footer{color:#9198a1}}"
)


def _page(title: str, body: str, foot: Sequence[str]) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>{body}</main>"
        f"<footer>{'<br>'.join(map(escape, foot))}</footer></body></html>"
    )
