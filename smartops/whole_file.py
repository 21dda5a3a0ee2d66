"""Files that change at once for all who read them."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4


def write_whole(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Put a file in the place of the one before; what fails leaves that, and nothing beside it.

    ``mode`` is less what the process takes from each file that it makes. Raises OSError.
    """
    new = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
