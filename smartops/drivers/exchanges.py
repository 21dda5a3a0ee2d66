"""How often devices are asked, and how long they take to answer: counted for each step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any

from smartops.errors import DeviceTimeout, DeviceUnreachable, UnknownOutcome

_UNANSWERED = (DeviceTimeout, DeviceUnreachable, UnknownOutcome, TimeoutError, OSError)


@dataclass
class Exchanges:
    """What one step asked of one device."""

    device: str
    requests: int = 0
    answered: int = 0
    """A refusal is an answer. One that was broken off is neither answered nor unanswered."""
    unanswered: int = 0
    total_s: float = 0.0
    """How long all that were answered took together."""
    longest_s: float = 0.0


@dataclass
class Tally:
    """What a step asked of all devices, by their names."""

    devices: dict[str, Exchanges] = field(default_factory=dict)

    def as_fields(self) -> dict[str, Any]:
        """Return what a record says of it: nothing, where no device was asked."""
        found = [asdict(device) for device in self.devices.values()]
        return {"exchanges": found} if found else {}


tally: ContextVar[Tally | None] = ContextVar("smartops_exchanges", default=None)
"""Where what is asked is counted; None: nowhere, as it is no step that asks."""


@contextmanager
def exchange(device: str, *no_answer: type[Exception]) -> Iterator[None]:
    """Count the request that is made within, and how long its answer takes.

    ``no_answer`` are errors of a library that mean that there was none.
    """
    counting = tally.get()
    if counting is None:
        yield
        return
    found = counting.devices.setdefault(device, Exchanges(device))
    began = time.perf_counter()
    found.requests += 1
    try:
        yield
    except Exception as error:
        if isinstance(error, (*_UNANSWERED, *no_answer)):
            found.unanswered += 1
        else:  # a refusal or a wrong answer came from somewhere
            _answered(found, began)
        raise
    _answered(found, began)


def _answered(found: Exchanges, began: float) -> None:
    took = time.perf_counter() - began
    found.answered += 1
    found.total_s += took
    found.longest_s = max(found.longest_s, took)
