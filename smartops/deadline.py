"""How long is waited for a lock, in all."""

from __future__ import annotations

import time
from datetime import timedelta

from smartops.settings import get_settings

STANDARD = timedelta(seconds=-1)
"""As long as the setting says."""


class Deadline:
    """When waiting ends, however many locks it is for; None: never."""

    def __init__(self, limit: timedelta | None) -> None:
        given = get_settings().lock_timeout if limit is STANDARD else limit
        self._at = None if given is None else time.monotonic() + given.total_seconds()

    def left_s(self) -> float | None:
        """Return the seconds that are left."""
        return None if self._at is None else max(self._at - time.monotonic(), 0.0)

    def left(self) -> timedelta | None:
        """Return the time that is left."""
        seconds = self.left_s()
        return None if seconds is None else timedelta(seconds=seconds)
