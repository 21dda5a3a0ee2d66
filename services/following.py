"""Follows a run live, over Prefect's WebSockets: its states and its log lines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import Log
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.logging.clients import get_logs_subscriber
from websockets.exceptions import WebSocketException

from smartops.errors import PrefectUnavailable

logger = logging.getLogger(__name__)
_POLL_S = 0.5
_PAGE = 200
_LAST_NEWS_S = 1.0


@dataclass(frozen=True)
class News:
    """One thing that a follower is told."""

    at: datetime
    what: Literal["run", "step", "log", "end"]
    name: str
    """The step's id, or the run's name."""
    text: str
    """The state's name, or the log line."""
    id: UUID | None = None
    """Of a log line: Prefect's id for it."""
    task_run: UUID | None = None
    """The task run that it is about; None for the run as a whole."""


async def follow(run_id: UUID) -> AsyncIterator[News]:
    """Yield what happens in a run until it has ended; the last item has ``what == "end"``.

    The streams are for speed. The API's own state decides when the run has ended, and the log lines
    that did not come over the stream are fetched then: a lost message loses nothing.
    """
    queue: asyncio.Queue[News] = asyncio.Queue()
    logged: set[UUID | None] = set()

    def seen(news: News) -> News:
        logged.add(news.id)
        return news

    pumps = [
        asyncio.create_task(_pump(_events, run_id, queue)),
        asyncio.create_task(_pump(_logs, run_id, queue)),
    ]
    ending = asyncio.create_task(_end(run_id))
    try:
        while not ending.done():
            getting = asyncio.create_task(queue.get())
            await asyncio.wait({getting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                break
            yield seen(getting.result())
        end = await ending
        async for news in _drain(queue):
            yield seen(news)
        for news in await past_logs(run_id):
            if news.id not in logged:
                yield news
        yield end
    finally:
        for task in (*pumps, ending):
            task.cancel()
        await asyncio.gather(*pumps, ending, return_exceptions=True)


async def _drain(queue: asyncio.Queue[News]) -> AsyncIterator[News]:
    """Yield what is still on its way: log lines are posted a moment after they were written."""
    try:
        async with asyncio.timeout(_LAST_NEWS_S):
            while True:
                yield await queue.get()
    except TimeoutError:
        return


async def _end(run_id: UUID) -> News:
    async with get_client() as client:
        while True:
            try:
                run = await client.read_flow_run(run_id)
            except httpx.TransportError as error:
                logger.debug("Prefect's API did not answer: %s", error)
            else:
                if run.state is not None and run.state.is_final():
                    return News(run.state.timestamp, "end", run.name, run.state.name or "")
            await asyncio.sleep(_POLL_S)


async def _pump(source: Any, run_id: UUID, queue: asyncio.Queue[News]) -> None:
    try:
        async for news in source(run_id):
            await queue.put(news)
    except (OSError, httpx.HTTPError, WebSocketException) as error:
        logger.debug("a live stream ended: %s", error)


async def _events(run_id: UUID) -> AsyncIterator[News]:
    states = EventNameFilter(prefix=["prefect.flow-run.", "prefect.task-run."])
    async with get_events_subscriber(filter=EventFilter(event=states)) as subscriber:
        async for event in subscriber:
            kind = event.event.split(".")
            text = event.resource.get("prefect.state-name") or ""
            name = event.resource.get("prefect.resource.name") or ""
            if event.resource.get("prefect.state-type") is None:
                continue  # a heartbeat, or another event that is no state
            if event.resource.id == f"prefect.flow-run.{run_id}":
                yield News(event.occurred, "run", name, text)
            elif kind[1] == "task-run" and any(
                related.id == f"prefect.flow-run.{run_id}" for related in event.related
            ):
                task_run = UUID(event.resource.id.removeprefix("prefect.task-run."))
                yield News(event.occurred, "step", name, text, task_run=task_run)


async def past_logs(run_id: UUID) -> list[News]:
    """Return the log lines that Prefect has of a run, the oldest first.

    Raises PrefectUnavailable.
    """
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    lines: list[News] = []
    try:
        async with get_client() as client:
            while True:
                page = await client.read_logs(wanted, limit=_PAGE, offset=len(lines))
                lines += [_log_line(line) for line in page]
                if len(page) < _PAGE:
                    return lines
    except httpx.TransportError as error:
        raise PrefectUnavailable(
            f"Prefect's API does not answer ({type(error).__name__})", hint="Check PREFECT_API_URL."
        ) from error


def _log_line(line: Log) -> News:
    return News(line.timestamp, "log", line.name, line.message, line.id, line.task_run_id)


async def _logs(run_id: UUID) -> AsyncIterator[News]:
    wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]))
    async with get_logs_subscriber(filter=wanted) as subscriber:
        async for line in subscriber:
            yield _log_line(line)
