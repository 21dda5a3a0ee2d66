"""What the command prints: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

STATE_STYLES = {
    "completed": "green",
    "failed": "red",
    "crashed": "red",
    "unknown_outcome": "bold red",
    "needs_decision": "bold red",
    "cancelled": "yellow",
    "skipped": "yellow",
    "running": "cyan",
}
_WIDTH_OF_A_FILE = 140
out = Console(
    highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _WIDTH_OF_A_FILE
)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def say(text: str) -> None:
    """Tell what is being done, on stderr."""
    err.print(Text(f"• {text}", style="dim"))


def table(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a table; a text is taken as it is, never as markup."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        made.add_column(title, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return made


def state_text(state: str) -> Text:
    """Return a state in its colour."""
    return Text(state.replace("_", " "), style=STATE_STYLES.get(state.lower(), ""))


def seconds(value: float | None) -> str:
    """Return a duration for people."""
    return "" if value is None else f"{value:.2f} s"


def first_line(text: str) -> str:
    """Return the first line of a log text: a traceback belongs into the log, not on a terminal."""
    return text.strip().split("\n", 1)[0]


def time_at(seconds: float | None) -> datetime:
    """Return a time that is given in seconds since 1970."""
    return datetime.fromtimestamp(seconds or 0.0, UTC)


def local_time(value: datetime) -> str:
    """Return a time in this machine's zone, with its name."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
