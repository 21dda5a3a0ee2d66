"""Counts the records that could not be written, and says so on record as soon as there is room."""

from __future__ import annotations

import threading
from uuid import UUID

_missing: dict[UUID, int] = {}
_guard = threading.Lock()


def note(run_id: UUID, records: int = 1) -> None:
    """Count records of a run that were not written."""
    with _guard:
        _missing[run_id] = _missing.get(run_id, 0) + records


def take(run_id: UUID) -> int:
    """Return how many records of a run are missing, and begin to count anew."""
    with _guard:
        return _missing.pop(run_id, 0)
