"""Cancellations that would be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heeded() -> Iterator[None]:
    """Raise the CancelledError that came while the block ran and was swallowed in it.

    Before Python 3.12 ``asyncio.wait_for``, which libraries call, gives the result back when the
    cancellation comes in the same moment: a step's time limit or a cancelled run has no effect.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    yield
    if task is not None and task.cancelling() > before:
        raise asyncio.CancelledError
