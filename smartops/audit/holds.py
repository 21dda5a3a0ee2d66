"""Legal hold: a run whose record is kept whatever the retention says."""

from __future__ import annotations

from uuid import UUID

from smartops.audit.events import Event
from smartops.audit.journal import get_journal
from smartops.audit.prune import held_runs
from smartops.audit.store import Store
from smartops.errors import BadInput


def record(store: Store, run_id: UUID, *, person: str, reason: str, placed: bool) -> None:
    """Put on record that a hold is placed on a run, or ended.

    Raises BadInput when it changes nothing, or no reason is given.
    """
    if not reason.strip():
        raise BadInput("a hold needs a reason")
    with store.reading() as connection:
        held = run_id in held_runs(connection)
    if held is placed:
        raise BadInput(f"run {run_id} is {'already' if placed else 'not'} held")
    body = {"person": person, "reason": reason, "placed": placed}
    get_journal().append(Event("hold", run_id, body))
