"""Lets a run that is told to stop end in order: what must be undone or done at the end is done."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.utilities import engine


class Stop:
    """Whether the process was told to stop while a run was under way."""

    def __init__(self) -> None:
        self.told = False
        self.cleaning = False
        """Whether the run ends in order already: then it is left to that."""


@contextmanager
def cancelled_by_signal() -> Iterator[Stop]:
    """Cancel the task that this is called in when the process is sent SIGTERM.

    Prefect's own handler raises an exception wherever the program happens to be, so that no step
    could end in order. Prefect's worker is told that the process will stop in peace only as long as
    that handler is the one in place, so it is replaced where Prefect looks for it too.
    """
    original: Any = vars(engine)["_prefect_sigterm_handler"]
    main = threading.current_thread() is threading.main_thread()
    stop = Stop()
    if not main or signal.getsignal(signal.SIGTERM) is not original:
        yield stop  # a run within another program, whose signals are its own business
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def handler(*_: object) -> None:
        first, stop.told = not stop.told, True
        if first and not stop.cleaning and task is not None:
            loop.call_soon_threadsafe(task.cancel)

    vars(engine)["_prefect_sigterm_handler"] = handler
    signal.signal(signal.SIGTERM, handler)
    try:
        yield stop
    finally:
        vars(engine)["_prefect_sigterm_handler"] = original
        signal.signal(signal.SIGTERM, original)
