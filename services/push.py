"""Hears of new runs from Prefect's stream of events, so that nobody waits for the next poll."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter, EventRelatedFilter

logger = logging.getLogger(__name__)
NAMES = [
    "prefect.flow-run.Scheduled",
    "prefect.flow-run.Late",
    "prefect.flow-run.AwaitingRetry",
    "prefect.flow-run.Resuming",
    "prefect.flow-run.AwaitingConcurrencySlot",
]
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 5.0
_SOON_S = 0.02
_EXPECTED_S = 5.0
"""For how long a run is asked for that does not come: another worker has it, or it is not due."""


class Expected:
    """The runs that were told of and not seen yet.

    Prefect tells of a run from within the transaction that writes it: whoever asks at once may be
    too early.
    """

    def __init__(self) -> None:
        self._until: dict[UUID, float] = {}
        self._any = asyncio.Event()

    def heard(self, run: UUID | None) -> None:
        """Note that a run is to come, or that nobody knows which may have."""
        if run is not None:
            self._until[run] = time.monotonic() + _EXPECTED_S
        self._any.set()

    def due(self, run: UUID, at: datetime) -> None:
        """Note when a run may be taken that was left, as it may not start early."""
        left_s = (at - datetime.now(UTC)).total_seconds()
        if left_s > 0:
            asyncio.get_running_loop().call_later(left_s, self.heard, run)

    def seen(self, runs: Iterable[UUID]) -> None:
        """Note that runs have come."""
        for run in runs:
            self._until.pop(run, None)

    async def ask(self, take: Callable[[], Awaitable[object]]) -> None:
        """Call ``take`` when there is something to be taken, until that has come; never returns."""
        while True:
            await self._any.wait()
            rest_s = _SOON_S
            while self._any.is_set() or self._until:
                self._any.clear()
                await take()
                now = time.monotonic()
                self._until = {run: end for run, end in self._until.items() if end > now}
                if self._until:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._any.wait(), rest_s)
                    rest_s = min(2 * rest_s, 1.0)


async def listen(pool: UUID, heard: Callable[[UUID | None], None]) -> None:
    """Call ``heard`` whenever a run of a work pool becomes one to be taken; never returns.

    Also after each connection: nobody knows what was missed before it. While there is none, the
    worker's polls go on.
    """
    wanted = EventFilter(
        event=EventNameFilter(name=NAMES),
        related=EventRelatedFilter(id=[f"prefect.work-pool.{pool}"]),
    )
    rest_s = _FIRST_REST_S
    while True:
        try:
            async with get_events_subscriber(filter=wanted) as events:
                heard(None)
                async for event in events:
                    rest_s = _FIRST_REST_S
                    heard(UUID(event.resource.id.rpartition(".")[2]))
        except Exception as error:  # noqa: BLE001 - whatever it is, polls go on, and it is tried again
            logger.warning("no stream of events, runs are polled for: %s", error)
        await asyncio.sleep(rest_s)
        rest_s = min(2 * rest_s, _LONGEST_REST_S)
