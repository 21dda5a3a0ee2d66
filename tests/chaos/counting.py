"""Counts at the end: what is lost, doubled, stuck, repeated, held, or falsely called dead."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services.stack import Stack
from smartops import locks
from smartops.audit import anchors, keys, lock_places, models, replay, verify
from smartops.audit.beats import BEAT_S, SILENCE_S
from smartops.audit.store import Store
from tests.chaos.system import KEPT, System

_OWN_WORDS = ("run.started", "step.started", "step.ended", "command.intended", "run.ended")
_SILENT_S = SILENCE_S - 2 * BEAT_S
"""How soon after it was cut off a machine may be given up: its last word was before that."""
_LATE_S = 15.0
"""How long after a machine is back what was decided meanwhile may come on record."""


@dataclass
class Count:
    """What was counted. All but the first five are to be 0."""

    runs: int
    kills: int
    journalled: int
    stored: int
    states: dict[str, int]
    lost: int
    doubled: int
    stuck: int
    unsafe_repeated: int
    locks_held: int
    elsewhere: int
    """How many of the runs the second machine made."""
    taken_away: int
    """How many of those were given up while it was cut off for long, and spoke again then."""
    false_deaths: int
    tampered: str

    @property
    def ok(self) -> bool:
        """Whether nothing went wrong."""
        faults = (
            self.lost,
            self.doubled,
            self.stuck,
            self.unsafe_repeated,
            self.locks_held,
            self.false_deaths,
        )
        return not any(faults) and not self.tampered

    def as_json(self) -> dict[str, Any]:
        """Return the count as a JSON object."""
        return asdict(self)


def posts(stack: Stack) -> Counter[str]:
    """Return how often the plant got each entry of its shift log."""
    assert stack.plant is not None
    url = f"{stack.plant.orders_url}/_plant/log?what=shift-log.post"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return Counter(entry["text"] for entry in json.load(answer))


def journalled(folders: Sequence[Path]) -> set[bytes]:
    """Return the ids of all events that ever were in a journal."""
    found: set[bytes] = set()
    for path in (path for folder in folders for path in folder.glob(f"{KEPT}/*.journal")):
        database = sqlite3.connect(path)
        try:
            found.update(row[0] for row in database.execute("SELECT id FROM record"))
        except sqlite3.OperationalError:
            continue  # killed before it had its tables
        finally:
            database.close()
    return found


def stored(store: Store) -> list[bytes]:
    """Return the ids of all events in the store."""
    with store.reading() as connection:
        return [row.bytes for row in connection.execute(sa.select(models.event.c.id)).scalars()]


def states(store: Store) -> Counter[str]:
    """Return how many runs of the job are in each state."""
    run = models.job_run
    query = sa.select(run.c.state, sa.func.count()).where(run.c.job == "chaos")
    with store.reading() as connection:
        rows = connection.execute(query.group_by(run.c.state))
        return Counter({row[0]: row[1] for row in rows})


def deaths(store: Store, away: Sequence[tuple[float, float]]) -> tuple[int, int]:
    """Return how many were called dead whose process spoke on; apart, those of a machine cut off.

    ``away`` says from when to when a machine was not to be heard of, in seconds since the epoch.
    """
    end, later = models.event.alias(), models.event.alias()
    query = (
        sa.select(end.c.run_id, end.c.at, end.c.body)
        .distinct()
        .join(later, later.c.run_id == end.c.run_id)
        .where(
            end.c.type == "run.ended",
            end.c.body.like('%"told_by": "reconciler"%'),
            later.c.at > end.c.at,
            later.c.type.in_(_OWN_WORDS),
            later.c.body.not_like('%"told_by"%'),
        )
    )
    with store.reading() as connection:
        rows = connection.execute(query).all()
    taken = 0
    for row in rows:
        at = row.at.replace(tzinfo=UTC).timestamp()
        was_away = any(since + _SILENT_S <= at <= until + _LATE_S for since, until in away)
        taken += was_away and "is not heard of any more" in row.body
    return len(rows) - taken, taken


def locks_held(store: Store | None = None) -> int:
    """Return how many things are held: of the home folder that is set, and among all machines."""
    among_machines = lock_places.queues(store) if store else ()
    return sum(1 for _ in (*locks.queues(), *among_machines))


def tampered(system: System, store: Store) -> str:
    """Return what `audit verify --tables` finds, empty where all is whole."""
    settings = system.stack.settings
    published = [seal for place in anchors.anchors_of(settings) for seal in place.published()]
    trusted = keys.trusted_keys(settings.keys_dir)
    verdict = verify.verify(store, trusted, anchors.anchored_hashes(published))
    bad = verdict.first_bad or replay.first_difference(store)
    return f"{bad.table} {bad.row} {bad.what}" if bad else ""
