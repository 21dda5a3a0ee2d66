"""What a worker puts on record of the runs that it takes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from uuid import UUID

from smartops.audit.events import Event, EventType
from smartops.audit.journal import get_journal
from smartops.errors import JournalUnavailable

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

logger = logging.getLogger(__name__)


def record(event: EventType, run_id: UUID, claim: UUID, **body: Any) -> bool:
    """Put it on record; return whether the journal took it."""
    try:
        intent = event == "process.claimed"
        get_journal().append(Event(event, run_id, {"claim_id": str(claim), **body}), intent=intent)
    except JournalUnavailable as error:
        logger.warning("%s", error.one_line)
        return False
    return True


def may_go_unrecorded(flow_run: FlowRun) -> bool:
    """Return whether a run may be made that cannot be put on record: its job says so."""
    job = (flow_run.parameters or {}).get("job")
    return isinstance(job, dict) and bool(job.get("read_when_journal_full"))
