"""Functions for the queries of reports, such as ``python: reports.own.functions:outside``.

Each takes the rows of queries that it gets by ``given``, and gives rows; it opens nothing and calls
nothing else. Those of ``READY`` may be called without ``SMARTOPS_PYTHON_PACKAGES`` naming them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

Row = dict[str, Any]
READY = frozenset({"reports.own.functions:outside"})


def outside(
    start: datetime,
    end: datetime,
    readings: list[Row],
    limits: dict[str, tuple[float | None, float | None]],
    holds_s: float = 3600.0,
) -> list[Row]:
    """Return for how long each tag was below or above what it should be, in seconds and hours.

    Args:
        start: The first moment that counts.
        end: The first moment after it.
        readings: Rows with ``device``, ``tag``, ``at`` and ``value``: the good readings.
        limits: The lowest and the highest value by ``device/tag``; null: there is none.
        holds_s: A value lasts until the next reading, and no longer than this.
    """
    ordered = sorted(readings, key=lambda row: (row["device"], row["tag"], row["at"]))
    by_tag = {
        f"{device}/{tag}": [(datetime.fromisoformat(row["at"]), row["value"]) for row in rows]
        for (device, tag), rows in groupby(ordered, key=lambda row: (row["device"], row["tag"]))
    }
    return [
        {"tag": tag, "low": low, "high": high}
        | _measured(by_tag.get(tag, []), (low, high), (start, end), timedelta(seconds=holds_s))
        for tag, (low, high) in limits.items()
    ]


def _measured(
    points: list[tuple[datetime, float]],
    limits: tuple[float | None, float | None],
    period: tuple[datetime, datetime],
    holds: timedelta,
) -> Row:
    (low, high), (start, end) = limits, period
    times = {"below": timedelta(), "above": timedelta(), "known": timedelta()}
    before, episodes = "", 0
    for (at, value), (next_at, _) in zip(points, [*points[1:], (end, 0.0)], strict=False):
        lasts = max(min(next_at, at + holds) - max(at, start), timedelta())
        where = "below" if low is not None and value < low else ""
        where = "above" if high is not None and value > high else where
        times["known"] += lasts
        if where:
            times[where] += lasts
            episodes += where != before
        before = where
    known_s = times["known"].total_seconds()
    out_s = (times["below"] + times["above"]).total_seconds()
    return {
        "readings": len(points),
        "below_s": times["below"].total_seconds(),
        "above_s": times["above"].total_seconds(),
        "below": times["below"] / timedelta(hours=1),
        "above": times["above"] / timedelta(hours=1),
        "episodes": episodes,
        "outside": out_s / known_s if known_s else None,
    }
