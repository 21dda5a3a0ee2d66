"""Divides readings into batches that an event of the journal can hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from smartops.drivers.readings import Reading

_READINGS_AN_EVENT = 30_000
"""Bytes: what is above 64 KiB would be cut."""
_LONGEST_REASON = 2000


def batches(readings: Sequence[Reading]) -> Iterator[list[dict[str, Any]]]:
    """Yield readings as JSON objects, in their order; none for none."""
    batch: list[dict[str, Any]] = []
    size = 0
    for reading in readings:
        plain = reading.as_json()
        plain["reason"] = plain["reason"][:_LONGEST_REASON]
        length = len(json.dumps(plain, default=str))
        if batch and size + length > _READINGS_AN_EVENT:
            yield batch
            batch, size = [], 0
        batch.append(plain)
        size += length
    if batch:
        yield batch
