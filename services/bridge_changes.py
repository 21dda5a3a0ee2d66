"""Which changes of tags count, and how many events may count: pure, with the time given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.devices import has_changed
from smartops.drivers.readings import Reading


@dataclass
class Bucket:
    """Lets so many through in so many seconds; as many at once at the most."""

    count: int
    seconds: float
    _left: float = field(init=False)
    _at: float = 0.0

    def __post_init__(self) -> None:
        """Begin full."""
        self._left = float(self.count)

    def wait_s(self, now: float) -> float:
        """Return the seconds until one may go through."""
        self._refill(now)
        return max(0.0, (1 - self._left) * self.seconds / self.count)

    def take(self, now: float) -> None:
        """Let one through."""
        self._refill(now)
        self._left -= 1

    def _refill(self, now: float) -> None:
        gained = max(now - self._at, 0.0) * self.count / self.seconds
        self._left, self._at = min(self._left + gained, float(self.count)), now


@dataclass(frozen=True)
class Change:
    """A tag has another value than the one that counted last."""

    before: Reading | None
    now: Reading
    since: float
    """When the value came, by the clock that is given."""
    missed: int = 0
    """How many other changes this one stands for, as they came too fast."""


class Changes:
    """Follows tags, and says when a change has stood long enough to count."""

    def __init__(
        self, deadbands: Mapping[str, float], debounce_s: float, *, bad_counts: bool
    ) -> None:
        self._deadbands = deadbands
        self._debounce_s = debounce_s
        self._bad_counts = bad_counts
        self._last: dict[str, Reading] = {}
        self._coming: dict[str, Change] = {}

    def counted(self, reading: Reading) -> None:
        """Take a reading for the one that counted last."""
        self._last[reading.tag] = reading
        coming = self._coming.pop(reading.tag, None)
        if coming is not None and self._differs(reading, coming.now):
            self._coming[reading.tag] = replace(coming, before=reading, missed=0)

    def see(self, reading: Reading, now: float) -> Reading | None:
        """Take a reading; return it where it is the first of its tag, which is no change."""
        tag = reading.tag
        if reading.quality == "bad" and not self._bad_counts:
            return None
        last = self._last.get(tag)
        if last is None:
            self._last[tag] = reading
            return reading
        coming = self._coming.get(tag)
        if coming is not None:
            if not self._differs(coming.now, reading):
                return None
            stood = now - coming.since >= self._debounce_s
            missed = coming.missed + (1 if stood else 0)
        else:
            missed = 0
        if self._differs(last, reading) or missed:
            self._coming[tag] = Change(last, reading, now, missed)
        else:
            self._coming.pop(tag, None)
        return None

    def _differs(self, before: Reading, now: Reading) -> bool:
        return has_changed(before, now, self._deadbands.get(now.tag, 0.0))

    def due(self, now: float) -> list[Change]:
        """Return what has stood long enough, the longest first. It stays until it counted."""
        ready = [c for c in self._coming.values() if now - c.since >= self._debounce_s]
        return sorted(ready, key=lambda change: change.since)

    def next_in_s(self, now: float) -> float | None:
        """Return the seconds until the next change has stood long enough; None: there is none."""
        waits = [self._debounce_s - (now - change.since) for change in self._coming.values()]
        return max(0.0, min(waits)) if waits else None


def as_event(source: str, device: str, change: Change) -> dict[str, object]:
    """Return a change as the JSON object that expressions and Prefect's event get."""
    found = change.now.as_json()
    before = None if change.before is None else change.before.value
    return {"source": source, "device": device, **found, "before": before, "missed": change.missed}
