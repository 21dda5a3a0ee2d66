"""Values as people read them: 1 h 04 min, 98.7 %, 21 Nov 06:00."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from reports.document import Cell, Figure, Kind

_NOTHING = "\N{EN DASH}"


def shown(value: Cell | UUID, kind: Kind, zone: str) -> str:
    """Return a value as a text for people; times are in the zone."""
    if value is None:
        return _NOTHING
    if isinstance(value, datetime):
        return f"{value.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _number(value, kind)
    if kind == "state":
        return str(value).replace("_", " ")
    return str(value)[:8] if kind == "id" else str(value)


def _number(value: float, kind: Kind) -> str:
    if kind == "seconds":
        return duration(value)
    if kind == "share":
        return share(value)
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    return f"{value:,.4g}".replace(",", "\u202f") if abs(value) < 10_000 else f"{value:.0f}"


def share(value: float) -> str:
    """Return a share of one as a percentage that never rounds a failure away."""
    percent = value * 100
    for digits in (1, 2, 3):
        text = f"{percent:.{digits}f}"
        if value in (0.0, 1.0) or text not in {f"{100:.{digits}f}", f"{0:.{digits}f}"}:
            break
    return f"{text} %"


def duration(value_s: float) -> str:
    """Return seconds as a text of at most two units."""
    sign, value = ("-", -value_s) if value_s < 0 else ("", value_s)
    if value == 0:
        return "0 s"
    if value < 1:
        return f"{sign}{value * 1000:.0f} ms"
    if value < 10:
        return f"{sign}{value:.2f} s"
    if value < 99.95:
        return f"{sign}{value:.1f} s"
    whole = round(value)
    for size, name, below, lower in (
        (86_400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            return f"{sign}{whole // size} {name} {whole % size // below:02d} {lower}"
    return f"{sign}{whole} s"


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its word: 1 slot was, 2 slots were."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def change(figure: Figure, zone: str) -> str:
    """Return how a figure compares with the period before, "" where it is not compared."""
    if figure.before is None:
        return ""
    return f"before: {shown(figure.before, figure.kind, zone)}"


def turn(figure: Figure) -> str:
    """Return whether a figure has become ``better`` or ``worse``, else ``same``."""
    now, before = figure.value, figure.before
    if not isinstance(now, (int, float)) or not isinstance(before, (int, float)) or now == before:
        return "same"
    if figure.better is None:
        return "same"
    return "better" if (now > before) == (figure.better == "more") else "worse"
