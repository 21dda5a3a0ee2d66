"""What the journal holds: one immutable record for each thing that happened."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from uuid6 import uuid7

from smartops import redact

EventType = Literal[
    "run.started",
    "run.ended",
    "step.started",
    "step.ended",
    "command.intended",
    "command.concluded",
]
RunState = Literal["running", "completed", "failed", "needs_decision", "cancelled", "crashed"]
StepState = Literal["running", "completed", "failed", "unknown_outcome", "skipped", "cancelled"]

MAX_FIELD_BYTES = 65_536
UNCUT = frozenset({"spec"})  # a cut job could not be rolled back to


@dataclass(frozen=True)
class Event:
    """One record. ``body`` is JSON, free of secrets, each field of it at most 64 KiB."""

    type: EventType
    run_id: UUID
    body: Mapping[str, Any]
    id: UUID = field(default_factory=uuid7)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def body_text(self) -> str:
        """Return the body as JSON text: secrets masked, long fields cut, odd values as text."""
        body = {key: _plain(redact.scrub(value)) for key, value in self.body.items()}
        return json.dumps(
            {key: value if key in UNCUT else _capped(value) for key, value in body.items()},
            ensure_ascii=False,
            allow_nan=False,
        )


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold, whatever a step handed over."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return redact.text(str(value))


def _capped(value: Any) -> Any:
    if isinstance(value, (str, dict, list)):
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        size = len(text.encode())
        if size > MAX_FIELD_BYTES:
            return {"truncated": True, "bytes": size, "head": text[:2000]}
    return value
