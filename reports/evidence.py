"""What the steps of a run have left as evidence, as the record says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from smartops.audit import models
from smartops.audit.store import Store


@dataclass(frozen=True)
class Evidence:
    """A file that a step has left."""

    step: str
    step_run_id: UUID | None
    name: str
    media_type: str
    bytes: int
    sha256: str
    place: str
    """A path, or an address."""
    stored_at: datetime


def evidence_of(store: Store, run_id: UUID) -> tuple[Evidence, ...]:
    """Return the evidence of a run, the oldest first. Raises StoreUnavailable."""
    kept, step = models.artifact, models.step_run
    query = (
        sa.select(
            sa.func.coalesce(step.c.step, ""),
            kept.c.step_run_id,
            kept.c.name,
            kept.c.media_type,
            kept.c.bytes,
            kept.c.sha256,
            kept.c.place,
            kept.c.stored_at,
        )
        .select_from(kept.outerjoin(step, step.c.id == kept.c.step_run_id))
        .where(kept.c.run_id == run_id)
        .order_by(kept.c.stored_at, kept.c.id)
    )
    with store.reading() as connection:
        return tuple(Evidence(*row) for row in connection.execute(query))
