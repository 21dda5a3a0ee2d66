"""Which changes of tags count, and how many events may count: pure, with the time given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    """Follows tags, and says when a change has stood long enough to count.

    What has stood and is wanted waits until it is taken; a later one of its tag takes its place.
    """

    def __init__(
        self,
        deadbands: Mapping[str, float],
        debounce_s: float,
        *,
        bad_counts: bool,
        is_wanted: Callable[[Change], bool] = lambda _change: True,
    ) -> None:
        self._deadbands = deadbands
        self._debounce_s = debounce_s
        self._bad_counts = bad_counts
        self._is_wanted = is_wanted
        self._last: dict[str, Reading] = {}
        """What counted last, or was not wanted, of each tag."""
        self._coming: dict[str, Change] = {}
        """What has to stand first."""
        self._waiting: dict[str, Change] = {}
        """What counts, and has to be dealt with."""

    def known(self, reading: Reading) -> None:
        """Take a reading for the one that counted last, as it was kept."""
        self._last[reading.tag] = reading

    def see(self, reading: Reading, now: float) -> Reading | None:
        """Take a reading as it comes; return it where it is the first of its tag: no change."""
        self.look(now)
        tag = reading.tag
        coming = self._coming.get(tag)
        if reading.quality == "bad" and not self._bad_counts:
            if coming is not None:  # nobody knows whether the value goes on standing
                self._coming[tag] = replace(coming, since=now)
            return None
        last = self._last.get(tag)
        if last is None:
            self._last[tag] = reading
            return reading
        if coming is not None and not self._differs(coming.now, reading):
            return None
        if self._differs(last, reading):
            self._coming[tag] = Change(last, reading, now)
        else:
            self._coming.pop(tag, None)
        self.look(now)
        return None

    def _differs(self, before: Reading, now: Reading) -> bool:
        if "bad" not in {before.quality, now.quality}:
            now = replace(now, quality=before.quality)  # uncertain is no other value
        return has_changed(before, now, self._deadbands.get(now.tag, 0.0))

    def look(self, now: float) -> None:
        """Let what has stood long enough count."""
        for tag, change in list(self._coming.items()):
            if now - change.since < self._debounce_s:
                continue
            del self._coming[tag]
            self._last[tag] = change.now
            earlier = self._waiting.get(tag)
            if earlier is not None:
                missed = earlier.missed + 1
                change = replace(change, before=earlier.before, missed=missed)  # noqa: PLW2901
            if self._is_wanted(change):
                self._waiting[tag] = change
            elif earlier is not None:
                self._waiting[tag] = replace(earlier, missed=earlier.missed + 1)

    def due(self) -> list[Change]:
        """Return what counts and was not taken yet, the oldest first."""
        return sorted(self._waiting.values(), key=lambda change: change.since)

    def take(self, change: Change) -> None:
        """Take a change: it is dealt with from now on."""
        del self._waiting[change.now.tag]

    def next_in_s(self, now: float) -> float | None:
        """Return the seconds until the next change has stood long enough; None: there is none."""
        waits = [self._debounce_s - (now - change.since) for change in self._coming.values()]
        return max(0.0, min(waits)) if waits else None


def as_event(source: str, device: str, change: Change) -> dict[str, object]:
    """Return a change as the JSON object that expressions and Prefect's event get."""
    found = change.now.as_json()
    before = None if change.before is None else change.before.value
    return {"source": source, "device": device, **found, "before": before, "missed": change.missed}
