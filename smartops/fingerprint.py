"""What two messages have in common: the same failure, whatever its numbers, ids and names."""

from __future__ import annotations

import hashlib
import re

_PARTS = (
    (re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"), "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?"), "<time>"),
    (re.compile(r"\b\d{1,3}(\.\d{1,3}){3}(:\d+)?\b"), "<address>"),
    (re.compile(r"\b(0x)?(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{12,}\b"), "<hex>"),
    (re.compile(r"(?<![\w<])[-+]?\d+([.,]\d+)*"), "<n>"),
)
_LONGEST = 500


def pattern(message: str) -> str:
    """Return a message's first line with all that varies from one time to the next taken out."""
    text = message.strip().partition("\n")[0][:_LONGEST]
    for part, name in _PARTS:
        text = part.sub(name, text)
    return " ".join(text.split())


def fingerprint(*parts: str | None) -> str:
    """Return 12 digits that are the same for the same failure, such as of a class and a message."""
    text = "\x1f".join(pattern(part or "") for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
