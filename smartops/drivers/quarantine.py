"""Leaves alone what does not answer, so that it does not hold up the others on its wire.

Each device, and each wire by itself, has a small file in the home folder while it does not answer:
runs have processes of their own. Whoever finds that its time has come tries it once, for all.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from smartops import errors
from smartops.drivers.wire_notes import note_path, write_note
from smartops.settings import get_settings

_FIRST_S = 10.0
"""How long something is left alone at first; then twice as long each time."""
_JITTER = 0.2
_SUFFIX = "quarantine"

by_hand: ContextVar[bool] = ContextVar("smartops_by_hand", default=False)
"""Whether a person asks, who wants to know how it is now."""


@dataclass(frozen=True)
class Change:
    """Something that is left alone from now on, or answers again."""

    device: str
    resource: str
    """The wire, such as ``modbus://10.0.0.5:502``."""
    part: str
    """What on the wire, such as ``unit 3``; empty: the wire as a whole."""
    state: Literal["quarantined", "back"]
    failures: int
    """How many times in a row it has not answered."""
    reason: str
    """What was said the last time."""
    since: datetime
    """When it was left alone first."""


@dataclass(frozen=True)
class Patience:
    """How soon something is left alone, and whom to tell."""

    after: int = 3
    """Failures in a row; 0: never."""
    longest: timedelta = timedelta(minutes=5)
    """How long it is left alone at the most before it is tried again."""
    tell: Callable[[Change], None] = field(default=lambda _change: None, compare=False)


PATIENT = Patience()


@dataclass(frozen=True)
class Note:
    """What is kept of something that does not answer. Times are seconds since 1970."""

    device: str
    resource: str
    part: str
    failures: int = 0
    reason: str = ""
    since: float | None = None
    """None while it has not been given up yet."""
    try_at: float = 0.0
    last: float = 0.0
    """When it did not answer the last time that was counted."""
    waited: float = 0.0
    """For how many seconds in a row somebody has waited and gone, beyond the failures."""


class Quarantine:
    """What is known of one device, or of a wire as a whole."""

    def __init__(self, device: str, resource: str, part: str, patience: Patience) -> None:
        self._patience = patience
        self._empty = Note(device, resource, part)
        name = f"{part.replace(' ', '-') or 'wire'}.{_SUFFIX}"
        self._path = note_path(resource, name)
        self._began = time.time()
        self._is_clear = False
        """Whether it has answered, and nothing was noted since: each answer need not look."""

    def begin(self) -> None:
        """Take note that an attempt begins: those that fail at the same time count once."""
        self._began = time.time()

    def check(self) -> None:
        """Raise DeviceQuarantined when it is to be left alone now, unless a person asks."""
        self._checked()

    def _checked(self) -> Note | None:
        note = self._load()
        if note is not None and note.since is not None and self._patience.after:
            left_s = self._left_s(note)
            if left_s > 0 and not by_hand.get():
                raise _quarantined(note, left_s)
        return note

    def claim(self) -> None:
        """As :meth:`check`; and where its time has come, take the try for this process alone."""
        note = self._checked()
        if note is not None and note.since is not None and not by_hand.get():
            self._save(replace(note, try_at=time.time() + self._pause_s(note.failures)))

    @contextmanager
    def trial(self, answer: timedelta) -> Iterator[None]:
        """Take note of whether what is done inside was answered; even a refusal is an answer.

        ``answer`` is how long one may take.
        """
        self.begin()
        try:
            yield
        except asyncio.CancelledError:
            self.broken_off(answer)
            raise
        except (errors.DeviceTimeout, errors.DeviceUnreachable) as error:
            self.unanswered(str(error))
            raise
        except errors.SmartOpsError:
            self.answered()
            raise
        self.answered()

    def answered(self) -> None:
        """Take note that it has answered: nothing stands against it any more."""
        if self._is_clear:
            return
        self._is_clear = True
        note = self._load()
        if note is None:
            return
        if note.since is not None:
            self._patience.tell(self._change(note, "back"))
        self._path.unlink(missing_ok=True)

    def unanswered(self, reason: str) -> None:
        """Take note that it has not answered; what happens too often has consequences."""
        note = self._load() or self._empty
        if self._began < note.last:
            return  # it was under way already when another one failed
        now = time.time()
        note = replace(note, failures=note.failures + 1, reason=reason[:500], last=now)
        if self._patience.after and note.failures >= self._patience.after:
            entering = note.since is None
            since = now if note.since is None else note.since
            note = replace(note, since=since, try_at=now + self._pause_s(note.failures))
            if entering:
                self._patience.tell(self._change(note, "quarantined"))
        self._save(note)

    def broken_off(self, answer: timedelta) -> None:
        """Take note that nobody waits any more for an answer, which may take so long.

        A step's own limit may be shorter, and nobody would ever find out that the device is dead:
        so much waiting in a row, without any answer, is one time without one.
        """
        note = self._load() or self._empty
        if not self._patience.after or self._began < note.last:
            return
        now, answer_s = time.time(), answer.total_seconds()
        waited_s = note.waited + min(max(now - self._began, 0.0), answer_s)
        if waited_s < answer_s:
            self._save(replace(note, waited=waited_s, last=now))
            return
        self._save(replace(note, waited=waited_s - answer_s))
        self.unanswered(f"no answer in {answer_s:g} s; the steps did not wait so long at a time")

    def _pause_s(self, failures: int) -> float:
        longest_s = self._patience.longest.total_seconds()
        rounds = min(max(failures - self._patience.after, 0), 30)
        pause_s = min(_FIRST_S * 2.0**rounds, longest_s)
        return pause_s * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - no secret

    def _left_s(self, note: Note) -> float:
        left_s = note.try_at - time.time()
        # A clock that was set back must not leave it alone for longer than ever.
        ceiling_s = self._patience.longest.total_seconds() * (1 + _JITTER)
        return left_s if left_s <= ceiling_s else 0.0

    def _change(self, note: Note, state: Literal["quarantined", "back"]) -> Change:
        since = datetime.fromtimestamp(note.since or time.time(), UTC)
        own = self._empty
        return Change(own.device, own.resource, own.part, state, note.failures, note.reason, since)

    def _load(self) -> Note | None:
        return _loaded(self._path)

    def _save(self, note: Note) -> None:
        self._is_clear = False
        write_note(self._path, asdict(note))


def quarantined() -> list[Note]:
    """Return what is left alone on this machine, in the order of its names."""
    folder = get_settings().home / "wires"
    notes = [_loaded(path) for path in folder.glob(f"*.{_SUFFIX}")]
    return sorted(
        (note for note in notes if note is not None and note.since is not None),
        key=lambda note: (note.device, note.resource, note.part),
    )


def _loaded(path: Path) -> Note | None:
    try:
        return Note(**json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        return None  # cut by a full disk: it is found out again


def _quarantined(note: Note, left_s: float) -> errors.DeviceQuarantined:
    since = datetime.fromtimestamp(note.since or 0, UTC)
    what = f"{note.device} ({note.part})" if note.part else note.device
    error = errors.DeviceQuarantined(
        f"{what}: left alone since {since:%Y-%m-%d %H:%M:%S} UTC, as it did not answer "
        f"{note.failures} times in a row; it is tried again in {left_s:.0f} s",
        hint=f"To try it now: `smartops device check {note.device}`.",
    )
    error.not_done = True
    error.retry_after = timedelta(seconds=left_s)
    return error
