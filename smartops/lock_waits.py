"""How long locks are waited for, and behind whom: told to whoever listens, such as the record."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Literal

LEAST_S = 0.1
"""What is free sooner is not told."""


@dataclass(frozen=True)
class Wait:
    """One time that somebody waited for a resource."""

    resource: str
    holder: str
    """Who had it when the waiting began, in words; empty where that is not known."""
    waited_s: float
    outcome: Literal["taken", "gave_up"]


@dataclass
class Waiting:
    """A wait that goes on."""

    resource: str
    holder: str = ""
    since: float = field(default_factory=time.monotonic)
    told: bool = False

    def over(self, outcome: Literal["taken", "gave_up"] = "taken") -> None:
        """Tell how long it took, once, and where it was longer than a moment."""
        waited_s = time.monotonic() - self.since
        if self.told or waited_s < LEAST_S:
            self.told = True
            return
        self.told = True
        for listener in listeners:
            listener(Wait(self.resource, self.holder, round(waited_s, 3), outcome))


listeners: list[Callable[[Wait], None]] = []
"""What is called with each wait that is over; it must not raise."""
_now: ContextVar[Waiting | None] = ContextVar("smartops_waiting", default=None)


@contextmanager
def waiting(resource: str) -> Iterator[Waiting]:
    """Measure how long a resource is waited for: until ``over`` is called, else for nothing."""
    wait = Waiting(resource)
    token = _now.set(wait)
    try:
        yield wait
    finally:
        with suppress(ValueError):  # the code was closed from another context
            _now.reset(token)
        wait.over("gave_up")


def behind(holder: str) -> None:
    """Say behind whom the resource is waited for that this code waits for; the first word holds."""
    wait = _now.get()
    if wait is not None and not wait.holder:
        wait.holder = holder
