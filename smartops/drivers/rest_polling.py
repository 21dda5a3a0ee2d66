"""Asks a REST service until its answer is as it should be."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from smartops import errors, redact
from smartops.drivers.rest import Answer
from smartops.drivers.rest_expect import find, holds
from smartops.drivers.retry_after import retry_after
from smartops.durations import format_duration

_ACCEPTED = 202
_SHOWN = 200


@dataclass(frozen=True)
class Polling:
    """What is waited for."""

    until: str = ""
    """JMESPath into the body; empty: a status other than 202."""
    fails_when: str = ""
    """JMESPath that says that it will never be so; empty: nothing does."""
    every: timedelta = timedelta(seconds=2)
    within: timedelta = timedelta(seconds=50)


@dataclass(frozen=True)
class Polled:
    """The answer that was waited for."""

    answer: Answer
    looks: int
    waited_s: float


async def poll(what: str, look: Callable[[], Awaitable[Answer]], polling: Polling) -> Polled:
    """Return the first answer that is as wanted; what fails for a while is looked at again.

    Raises ExpectationFailed when it will never be so or is not so in time, and the errors of a
    request.
    """
    began = time.monotonic()
    ends_at = began + polling.within.total_seconds()
    looks, last = 0, "no answer"
    while True:
        looks += 1
        asked: timedelta | None = None
        try:
            answer = await look()
        except errors.TransientError as error:
            last, asked = error.one_line, error.retry_after
            if time.monotonic() >= ends_at:
                raise
        else:
            if _is_wanted(what, answer, polling):
                return Polled(answer, looks, round(time.monotonic() - began, 3))
            last = f"{answer.status}: {_shown(answer.body)}"
            asked = retry_after(answer.headers.get("retry-after", ""))
        pause_s = max(polling.every, asked or timedelta()).total_seconds()
        if time.monotonic() + pause_s > ends_at:
            raise errors.ExpectationFailed(
                f"{what}: not as wanted within {format_duration(polling.within)}, "
                f"after {looks} looks; the last said {last}"
            )
        await asyncio.sleep(pause_s)


def _is_wanted(what: str, answer: Answer, polling: Polling) -> bool:
    if polling.fails_when and holds(find(what, polling.fails_when, answer.body)):
        raise errors.ExpectationFailed(
            f"{what}: it has failed, as {polling.fails_when!r} says: {_shown(answer.body)}"
        )
    if polling.until:
        return holds(find(what, polling.until, answer.body))
    return answer.status != _ACCEPTED


def _shown(body: Any) -> str:
    return redact.text(str(body))[:_SHOWN]
