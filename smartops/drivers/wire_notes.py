"""What is known of a wire from one run to the next: small files in the home folder.

Each run has a process of its own, so that what a driver finds out has to outlive it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from smartops.drivers.coalesce import Hole
from smartops.file_names import file_name
from smartops.settings import get_settings
from smartops.whole_file import write_whole

_FORGOTTEN_AFTER_S = 86_400.0


def note_path(resource: str, what: str) -> Path:
    """Return the file of what is known of a wire."""
    return get_settings().home / "wires" / f"{file_name(resource)}.{what}"


def write_note(path: Path, content: Any) -> None:
    """Write a note as JSON, at once for all who read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(content).encode())


def line_at(port: str) -> str:
    """Return the resource of a local serial port, by whatever name and protocol it is used."""
    return f"serial://{os.path.realpath(port)}"


class OpenQuestion:
    """Whether the last one on a wire left without its answer, which may still be on its way.

    On a serial line an answer does not say which question it belongs to. A process that is killed
    leaves its mark behind, and the next one waits until the late answer has passed.
    """

    def __init__(self, resource: str) -> None:
        self._path = note_path(resource, "asked")
        self._path.parent.mkdir(parents=True, exist_ok=True)

    def was_left(self) -> bool:
        """Return whether there is a mark."""
        return self._path.exists()

    def ask(self) -> None:
        """Leave a mark: a question is about to be sent."""
        self._path.touch()

    def settle(self) -> None:
        """Remove the mark: the answer is there, or nothing can come any more."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def known_holes(resource: str, unit: int) -> list[Hole]:
    """Return the addresses that a device has refused within the last day."""
    return list(_holes(note_path(resource, f"{unit}.holes")))


def _holes(path: Path) -> dict[Hole, float]:
    try:
        entries = json.loads(path.read_text("utf-8"))
        latest = time.time() - _FORGOTTEN_AFTER_S
        return {Hole(area, first, last): at for area, first, last, at in entries if at > latest}
    except (FileNotFoundError, ValueError, TypeError):
        return {}  # nothing is known, or the file was cut by a full disk: it is found out again


def remember_holes(resource: str, unit: int, holes: Iterable[Hole]) -> None:
    """Keep the addresses that a device has refused, with those known before."""
    path = note_path(resource, f"{unit}.holes")
    known = {**dict.fromkeys(holes, time.time()), **_holes(path)}
    write_note(path, [[hole.area, hole.first, hole.last, at] for hole, at in known.items()])
