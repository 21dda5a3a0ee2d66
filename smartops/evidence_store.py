"""Where evidence is kept: a folder for each run, on this machine or elsewhere (S3 and more).

What is made on this machine comes into the evidence folder of the home folder first. With
``SMARTOPS_EVIDENCE_STORE`` it is moved from there to the store; where the store is away, it stays,
and its place on record says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from smartops.errors import BadInput
from smartops.settings import get_settings

logger = logging.getLogger(__name__)
MEDIA_TYPES = {
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".zip": "application/zip",
    ".har": "application/json",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".xml": "application/xml",
    ".webm": "video/webm",
}


@dataclass(frozen=True)
class KeptFile:
    """A file that is kept."""

    name: str
    path: Path
    media_type: str
    sha256: str
    size: int
    """In bytes."""


def kept_file(path: Path) -> KeptFile:
    """Return a file with its checksum."""
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
    return KeptFile(path.name, path, media_type, digest, path.stat().st_size)


def folder_of(run: UUID, step: UUID) -> Path:
    """Return the folder on this machine into which a step's evidence comes first."""
    return get_settings().evidence_dir / str(run) / str(step)


def put(path: Path) -> str:
    """Move a file of :func:`folder_of` into the store; return its place, a path or an address.

    It never raises for a store that is away: the file stays where it is.
    """
    root = get_settings().evidence_store
    if not root:
        return str(path)
    place = f"{root.rstrip('/')}/{path.relative_to(get_settings().evidence_dir).as_posix()}"
    try:
        files, name = _files(place)
        files.makedirs(name.rpartition("/")[0], exist_ok=True)
        files.put_file(str(path), name)
    except Exception as error:  # noqa: BLE001 - each kind of store has errors of its own
        logger.warning("evidence stays on this machine, as its store is away: %s", error)
        return str(path)
    path.unlink()
    _tidy(path.parent)
    return place


def read(place: str) -> bytes:
    """Return what is kept at a place. Raises FileNotFoundError; OSError when the store is away."""
    if "://" not in place:
        return Path(place).read_bytes()
    files, name = _files(place)
    try:
        content: bytes = files.cat_file(name)
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"{place}: {error}") from error
    return content


@dataclass(frozen=True)
class Cleared:
    """What was, or would be, taken away."""

    steps: int
    files: int


def clear(before: datetime, *, keep: Collection[UUID] = (), dry_run: bool = False) -> Cleared:
    """Take away the evidence of steps that began before a moment, but of the runs in ``keep``.

    Raises OSError when the store is away.
    """
    steps = files = 0
    for run, step, names, remove in [*_local_steps(), *_stored_steps()]:
        if run in keep or _began(step) >= before:
            continue
        steps += 1
        files += len(names)
        if not dry_run:
            remove()
    return Cleared(steps, files)


_Found = tuple[UUID, UUID, list[str], Callable[[], None]]


def _local_steps() -> Iterator[_Found]:
    root = get_settings().evidence_dir
    for folder in sorted(root.glob("*/*")):
        with suppress(ValueError):
            run, step = UUID(folder.parent.name), UUID(folder.name)
            yield run, step, [path.name for path in folder.iterdir()], _remover(folder)


def _remover(folder: Path) -> Callable[[], None]:
    def remove() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        _tidy(folder.parent)

    return remove


def _tidy(folder: Path) -> None:
    """Remove folders that have become empty, but for the whole store."""
    while folder != get_settings().evidence_dir:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _stored_steps() -> Iterator[_Found]:
    root = get_settings().evidence_store
    if not root:
        return
    files, name = _files(root)
    if not files.exists(name):
        return
    for run in files.ls(name, detail=False):
        for folder in files.ls(run, detail=False):
            with suppress(ValueError):
                pair = UUID(_last(run)), UUID(_last(folder))
                names = [_last(path) for path in files.ls(folder, detail=False)]
                yield *pair, names, partial(files.rm, folder, recursive=True)


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _began(step: UUID) -> datetime:
    """Return when a step began, as its id says (UUIDv7)."""
    return datetime.fromtimestamp((step.int >> 80) / 1000, UTC)


def _files(place: str) -> tuple[Any, str]:
    """Return the file system of a place, and its path there. Raises BadInput."""
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]  # noqa: PLC0415 - only who keeps evidence elsewhere needs it

    given = get_settings().evidence_options
    try:
        options = json.loads(given.get_secret_value()) if given else {}
        files, path = url_to_fs(place, **options)
    except (ValueError, ImportError, TypeError) as error:
        raise BadInput(
            f"SMARTOPS_EVIDENCE_STORE: {place.partition('://')[0]}: {error}",
            hint="S3 needs `pip install smartops[s3]`; others name their package.",
        ) from None
    return files, str(path)
