"""What the journal holds: one immutable record for each thing that happened."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import SecretBytes, SecretStr
from uuid6 import uuid7

from smartops import redact

EventType = Literal[
    "run.started",
    "run.ended",
    "run.suspended",
    "step.started",
    "step.ended",
    "command.intended",
    "command.concluded",
    "readings",
    "log",
    "artifact",
    "child.started",
    "device",
    "approval",
    "job.changed",
    "decision",
    "alert",
    "alert.delivery",
    "alert.answer",
    "audit.verified",
    "report",
    "quality",
    "revision",
    "slot",
    "process.claimed",
    "process.started",
    "process.exited",
    "hold",
    "lock.waited",
    "journal.gap",
    "records.pruned",
]
RunState = Literal[
    "running", "suspended", "completed", "failed", "needs_decision", "cancelled", "crashed"
]
StepState = Literal[
    "running", "completed", "failed", "unknown_outcome", "skipped", "cancelled", "crashed"
]
NO_RUN = UUID(int=0)
"""The run id of events that belong to no run, such as a slot that was missed."""

MAX_FIELD_BYTES = 65_536
_SURELY_FITS = MAX_FIELD_BYTES // 6
"""Characters: none becomes more than the six bytes of an escaped half of a surrogate pair."""
MAX_DEPTH = 50
_GREATEST_INT = 1 << 63
UNCUT = frozenset({"spec"})  # a cut job could not be rolled back to


@dataclass(frozen=True)
class Event:
    """One record. ``body`` is JSON, free of secrets, each field of it at most 64 KiB."""

    type: EventType
    run_id: UUID
    """``NO_RUN`` where there is none."""
    body: Mapping[str, Any]
    id: UUID = field(default_factory=uuid7)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def body_text(self) -> str:
        """Return the body as JSON text. It never fails, whatever a step handed over.

        Secrets are masked, long fields cut; what JSON or UTF-8 cannot hold becomes text.
        """
        fields = (f"{_json(key)}: {_field(key, value)}" for key, value in self.body.items())
        text = f"{{{', '.join(fields)}}}"
        return text.encode("utf-8", "backslashreplace").decode()


def _field(key: str, value: Any) -> str:
    """Return the JSON text of a field."""
    if key in UNCUT:
        return _json(redact.known(value) if isinstance(value, str) else value)
    value = redact.scrub(_plain(value))
    text = _json(value)
    if len(text) <= _SURELY_FITS or not isinstance(value, (str, dict, list)):
        return text
    whole = value if isinstance(value, str) else text
    size = len(whole.encode("utf-8", "backslashreplace"))
    if size <= MAX_FIELD_BYTES:
        return text
    return _json({"truncated": True, "bytes": size, "head": whole[:2000]})


_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a value that JSON can hold."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return value if abs(value) < _GREATEST_INT else hex(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (dict, list, tuple, set, frozenset)) and depth >= MAX_DEPTH:
        return "(deeper than the record goes)"
    if isinstance(value, Mapping):
        return {_text(str(key)): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, depth + 1) for item in value]
    return "********" if isinstance(value, (SecretStr, SecretBytes)) else _text(str(value))


def _text(value: str) -> str:
    """Return a text that UTF-8 can hold: half of a surrogate pair becomes visible."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "backslashreplace").decode()
    return value
