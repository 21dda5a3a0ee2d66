"""Tells when files that a service reads have changed."""

from __future__ import annotations

from pathlib import Path

State = tuple[tuple[str, int, int], ...]


def state_of(path: Path) -> State:
    """Return what changes when a file, or one of a folder's files, does; empty without any."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
    except OSError:
        return ()
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        found.append((file.name, status.st_mtime_ns, status.st_size))
    return tuple(found)
