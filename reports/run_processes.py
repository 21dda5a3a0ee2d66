"""The processes of a run as they stand in the audit store: how each ended, and what it left."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from smartops.audit import models


@dataclass(frozen=True)
class ProcessEntry:
    """A process that a worker started for a run, and how it ended."""

    worker: str
    host: str
    pid: int | None
    started_at: datetime | None
    exited_at: datetime | None
    exit_status: int | None
    """Negative for the signal that ended it."""
    cause: str | None
    """Why it ended, where it did not end in peace."""
    left_behind: tuple[str, ...] | None
    """What was still alive after it and was ended then; None where nobody has looked."""
    still_alive: tuple[str, ...] | None
    """What of that could not be ended."""

    @property
    def left(self) -> str:
        """What was alive after it, in a sentence; empty where nobody has looked."""
        if self.still_alive:
            return f"Alive after its process, and not to be ended: {', '.join(self.still_alive)}."
        if self.left_behind:
            return f"Alive after its process, and ended then: {', '.join(self.left_behind)}."
        return "" if self.left_behind is None else "Alive after its process: nothing."


def processes_of(connection: sa.Connection, run_id: UUID) -> tuple[ProcessEntry, ...]:
    """Return the processes of a run, the first one first."""
    table = models.run_process
    columns = [table.c[name] for name in ProcessEntry.__dataclass_fields__]
    query = sa.select(*columns).where(table.c.run_id == run_id).order_by(table.c.claimed_at)
    return tuple(
        ProcessEntry(*row[:-2], *(text and tuple(json.loads(text)) for text in row[-2:]))
        for row in connection.execute(query)
    )
