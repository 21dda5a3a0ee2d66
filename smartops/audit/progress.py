"""What a run has achieved so far, kept whole on its machine, so that it can be taken up again.

The record in the audit store is masked and cut; what a later step computes with must not be. A file
for each run, for its owner's eyes only, is written as steps end and deleted when the run succeeds.
"""

from __future__ import annotations

import json
import os
import time
import weakref
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from smartops.settings import get_settings

_SUFFIX = ".jsonl"
UNKNOWN_ITEM = "(the value is not on record)"
"""The value of an item that is only known from the record."""


@dataclass(frozen=True)
class Kept:
    """How a step, or one item of it, or a question to a person, ended."""

    step: str
    """As on record: ``read``, ``read[2]``, ``undo_write``."""
    state: str
    output: Any = None
    error: str = ""
    item: Any = None
    """For a step with a list: the value that it was made for."""
    at: float = 0.0
    """Seconds since 1970."""


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


_json = json.JSONEncoder(default=_plain).encode


class Progress:
    """The file of one run."""

    def __init__(self, run_id: UUID) -> None:
        self._path = _path(run_id)
        self._file: int | None = None

    def keep(self, kept: Kept) -> None:
        """Add to the file. Lost with the machine's power at worst: then the record has to do."""
        # A blank line first: what is added after a torn line must not join it.
        line = "\n" + _json({**vars(kept), "at": time.time()}) + "\n"
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._file = os.open(self._path, flags, 0o600)
            weakref.finalize(self, os.close, self._file)
        os.write(self._file, line.encode("utf-8", "backslashreplace"))

    def forget(self) -> None:
        """Delete the file: the run has succeeded."""
        self._path.unlink(missing_ok=True)

    def load(self) -> list[Kept]:
        """Return what was kept, the oldest first; nothing where there is no file."""
        try:
            lines = self._path.read_text("utf-8").split("\n")
        except FileNotFoundError:
            return []
        return list(_parsed(lines))


def _parsed(lines: list[str]) -> Iterator[Kept]:
    for line in lines:
        try:
            yield Kept(**json.loads(line))
        except (ValueError, TypeError):
            continue  # the torn last line of a process that was killed while it wrote


def _path(run_id: UUID) -> Path:
    return get_settings().progress_dir / f"{run_id}{_SUFFIX}"


def clear_old(folder: Path, age: timedelta, keep: Collection[UUID] = ()) -> int:
    """Delete the files of runs that nobody has taken up for long; return how many.

    Those to ``keep`` still wait for a person.
    """
    kept = {_path(run_id) for run_id in keep}
    limit = time.time() - age.total_seconds()
    gone = 0
    for path in folder.glob(f"*{_SUFFIX}") if folder.is_dir() else ():
        try:
            if path not in kept and path.stat().st_mtime < limit:
                path.unlink()
                gone += 1
        except FileNotFoundError:
            continue
    return gone
