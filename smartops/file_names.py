"""Names of files for things that are called otherwise, such as addresses."""

from __future__ import annotations

import hashlib
import re


def file_name(text: str) -> str:
    """Return a name that people can read, and that no other text has."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", text)[:80]
    return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
