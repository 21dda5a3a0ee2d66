"""Durations in buckets: small to keep, quick to add up, and quantiles that are right to 1.1 %.

Each bucket is 2^(1/32) times as wide as the one before. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping

_PER_DOUBLING = 32
_BOUNDS = [round(2 ** (number / _PER_DOUBLING)) for number in range(_PER_DOUBLING * 46)]
"""The least microseconds of each bucket; the last one is above two years."""
ERROR = 2 ** (1 / (2 * _PER_DOUBLING)) - 1
"""How far a quantile may be from the true one, as a share of it, above a tenth of a millisecond."""


def bucket(duration_us: int) -> int:
    """Return the bucket of a duration in microseconds."""
    return max(bisect_right(_BOUNDS, duration_us) - 1, 0)


def middle_us(number: int) -> float:
    """Return the duration that stands for all in a bucket, in microseconds."""
    low = _BOUNDS[number]
    high = _BOUNDS[number + 1] if number + 1 < len(_BOUNDS) else low
    return float((low * high) ** 0.5)


def write(counts: Mapping[int, int]) -> str:
    """Return a histogram as text."""
    return " ".join(f"{number}:{counts[number]}" for number in sorted(counts))


def add_text(counts: Counter[int], text: str) -> None:
    """Add a histogram that is given as text."""
    for pair in text.split():
        number, _, count = pair.partition(":")
        counts[int(number)] += int(count)


def quantile_s(counts: Mapping[int, int], share: float) -> float | None:
    """Return a quantile in seconds, None of nothing."""
    total = sum(counts.values())
    if not total:
        return None
    place = (total - 1) * share
    low, high = _at(counts, int(place)), _at(counts, min(int(place) + 1, total - 1))
    return (low + (high - low) * (place - int(place))) / 1_000_000


def _at(counts: Mapping[int, int], place: int) -> float:
    """Return the duration that has so many before it, in microseconds."""
    for number in sorted(counts):
        place -= counts[number]
        if place < 0:
            return middle_us(number)
    raise IndexError("no value has so many before it")


def of(durations_us: Iterable[int]) -> Counter[int]:
    """Return the histogram of durations in microseconds."""
    return Counter(map(bucket, durations_us))
