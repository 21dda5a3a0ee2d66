"""Hears of new runs from Prefect's stream of events, so that nobody waits for the next poll."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
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
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 30.0


async def listen(pool: UUID, heard: Callable[[], None]) -> None:
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
                heard()
                async for _ in events:
                    rest_s = _FIRST_REST_S
                    heard()
        except Exception as error:  # noqa: BLE001 - whatever it is, polls go on, and it is tried again
            logger.warning("no stream of events, runs are polled for: %s", error)
        await asyncio.sleep(rest_s)
        rest_s = min(2 * rest_s, _LONGEST_REST_S)
