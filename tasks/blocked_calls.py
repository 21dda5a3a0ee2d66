"""Ends a run's process whose step blocks it beyond its time: nothing within could end it.

A time limit ends a call that waits in the event loop. One that never comes back to the loop, such
as a library that waits for a socket by itself, it cannot end; a thread can see that, put it on
record, and end the process with all that it has started. Who looks after dead runs does the rest.
A call that does not even let other threads run is ended by the interpreter's own timer.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import psutil

from smartops.audit.recording import StepRecord
from smartops.durations import format_duration
from smartops.errors import StepTimeout, UnknownOutcome

GRACE_S = 5.0
"""How long a step may take to end after its time, as long as the program answers at all."""
_LOOK_S = 0.25
_RECORD_S = 3.0
_STDERR = 2
logger = logging.getLogger(__name__)


@dataclass
class _Watched:
    record: StepRecord
    limit_s: float
    ends_at: float
    loop: asyncio.AbstractEventLoop
    thread: int
    asked_at: float | None = None

    def is_silent(self, now: float) -> bool:
        """Ask the loop for a sign of life; return whether it has given none for too long."""
        asked_at = self.asked_at  # the loop may answer at any moment, and change it
        if asked_at is None:
            self.asked_at = now
            self.loop.call_soon_threadsafe(self._answer)
            return False
        return now - asked_at > GRACE_S

    def _answer(self) -> None:
        self.asked_at = None


_OF_ONE_RUN = ("prefect.engine", "services.zygote")
"""What such a process was started as: Prefect's engine, or the zygote that it is forked from."""
_watched: dict[int, _Watched] = {}
_guard = threading.Lock()
_thread: threading.Thread | None = None


@contextmanager
def watched(record: StepRecord, limit_s: float | None) -> Iterator[None]:
    """Watch the step around which this stands. Only in a process that runs nothing but its run."""
    if limit_s is None or not _is_own_process():
        yield
        return
    now = time.monotonic()
    loop = asyncio.get_running_loop()
    one = _Watched(record, limit_s, now + limit_s, loop, threading.get_ident())
    with _guard:
        _watched[id(one)] = one
        _begin()
        _arm()
    try:
        yield
    finally:
        with _guard:
            _watched.pop(id(one), None)
            _arm()


def _arm() -> None:
    """Put off the timer that needs no turn in the interpreter, as long as threads have theirs."""
    if not _watched:
        faulthandler.cancel_dump_traceback_later()
        return
    first = min(one.ends_at for one in _watched.values())
    left = max(first - time.monotonic(), 0.0) + 2 * GRACE_S
    faulthandler.dump_traceback_later(left, exit=True, file=_STDERR)


def _is_own_process() -> bool:
    """Return whether this process is there for one run, as workers have it."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    return spec is not None and spec.name.startswith(_OF_ONE_RUN)


def _begin() -> None:
    global _thread  # noqa: PLW0603 - one for the process
    if _thread is None:
        _thread = threading.Thread(target=_watch, name="watchdog", daemon=True)
        _thread.start()


def _watch() -> None:
    global _thread  # noqa: PLW0603 - see above
    while True:
        time.sleep(_LOOK_S)
        now = time.monotonic()
        with _guard:
            late = [one for one in _watched.values() if now > one.ends_at]
            if not _watched:
                _thread = None  # within the guard: whoever comes next must not count on this one
                return
            _arm()
        for one in late:
            if one.is_silent(now):
                _end(one)


def _end(one: _Watched) -> None:
    """Put on record where the step hangs, and end this process with all that it has started."""
    frame = sys._current_frames().get(one.thread)
    stack = traceback.extract_stack(frame) if frame is not None else []
    where = f"{stack[-1].filename}:{stack[-1].lineno} in {stack[-1].name}" if stack else "unknown"
    limit = format_duration(timedelta(seconds=one.limit_s))
    text = (
        f"not done after {limit}: the call blocked its process, at {where}, "
        "and the process was ended"
    )
    logger.error("%s\n%s", text, "".join(traceback.format_list(stack)))
    record = threading.Thread(target=_record, args=(one.record, text), daemon=True)
    record.start()
    record.join(_RECORD_S)  # the blocked thread may be in the journal itself
    for child in psutil.Process().children(recursive=True):
        child.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def _record(record: StepRecord, text: str) -> None:
    if record.may_have_happened:
        record.failed(UnknownOutcome(f"{text}; its effect may or may not have happened"))
    else:
        record.failed(StepTimeout(text))
