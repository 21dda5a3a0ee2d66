"""What the device bridge does with an event: it starts the job, and tells Prefect."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.events import Event
from prefect.events.clients import get_events_client

from services.bridge_ledger import Ledger, Taken
from services.prefect_api import prefect_errors
from services.submitting import submit_for_event
from smartops.errors import PermanentError, PrefectUnavailable
from smartops.jobs import templating
from smartops.jobs.event_sources import ROOT, MessageSource, Start, TagSource

logger = logging.getLogger("services.bridge")
EVENT = "smartops.source.event"
"""What Prefect's events of all sources are called; the resource says which source it is."""


async def deal_with(
    client: PrefectClient, ledger: Ledger, source: MessageSource | TagSource, taken: Taken
) -> None:
    """Start the job of an event and tell Prefect of it. Raises PrefectUnavailable.

    Done again for the same event, it makes no second run, and its event has the same id. What is
    wrong with the event or the job is kept as the event's problem, and told like the rest.
    """
    run_id, problem = taken.run_id, ""
    if source.start is not None and run_id is None:
        try:
            run_id = await _started(client, source.start, source.name, taken)
        except PermanentError as error:
            problem = error.one_line
        except (ValueError, TypeError, RecursionError) as error:  # what somebody sent, or deployed
            problem = f"{type(error).__name__}: {error}"[:500]
        if run_id is not None:
            ledger.started(taken, run_id)
        else:
            logger.warning("source %s: no run: %s", source.name, problem)
    await _tell(source.name, taken, run_id, problem)
    ledger.done(taken, run_id, problem)


async def _started(client: PrefectClient, start: Start, source: str, taken: Taken) -> UUID:
    params = templating.render(start.params, {ROOT: taken.event})
    with prefect_errors():
        return await submit_for_event(
            client,
            start.job,
            params,
            asked_by=f"source {source}",
            key=f"smartops-{taken.event_id}",
        )


async def _tell(source: str, taken: Taken, run_id: UUID | None, problem: str) -> None:
    payload: dict[str, Any] = dict(taken.event)
    if problem:
        payload["problem"] = problem
    related = []
    if run_id is not None:
        related = [
            {
                "prefect.resource.id": f"prefect.flow-run.{run_id}",
                "prefect.resource.role": "flow-run",
            }
        ]
    event = Event(
        id=taken.event_id,
        event=EVENT,
        resource={
            "prefect.resource.id": f"smartops.source.{source}",
            "prefect.resource.name": source,
        },
        related=related,
        payload=payload,
    )
    try:
        event.model_dump_json()
    except (ValueError, RecursionError) as error:  # Prefect cannot hold it, now or later
        event.payload = {"source": source, "problem": f"it cannot be told: {error}"[:500]}
    try:
        async with get_events_client() as events:
            await events.emit(event)
    except Exception as error:  # whatever its connection runs into
        raise PrefectUnavailable(
            f"Prefect's events cannot be reached ({type(error).__name__})"
        ) from error
