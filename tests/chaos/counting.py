"""Counts at the end: what is lost, doubled, stuck, repeated, held, or falsely called dead."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from services.stack import Stack
from smartops import locks
from smartops.audit import anchors, keys, models, replay, verify
from smartops.audit.store import Store
from tests.chaos.system import System


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


def journalled(folder: Path) -> set[bytes]:
    """Return the ids of all events that ever were in a journal."""
    found: set[bytes] = set()
    for path in folder.glob("*.journal"):
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


def false_deaths(store: Store) -> int:
    """Return how many runs were called dead whose process spoke on."""
    event, run = models.event, models.job_run
    query = (
        sa.select(sa.func.count(sa.distinct(run.c.id)))
        .join(event, event.c.run_id == run.c.id)
        .where(
            run.c.evidence.is_not(None),
            event.c.type.not_like("process.%"),
            event.c.at > run.c.ended_at,
        )
    )
    with store.reading() as connection:
        return int(connection.execute(query).scalar_one())


def locks_held() -> int:
    """Return how many things of the home folder that is set are held by anybody."""
    return sum(1 for _ in locks.queues())


def tampered(system: System, store: Store) -> str:
    """Return what `audit verify --tables` finds, empty where all is whole."""
    settings = system.stack.settings
    published = [seal for place in anchors.anchors_of(settings) for seal in place.published()]
    trusted = keys.trusted_keys(settings.keys_dir)
    verdict = verify.verify(store, trusted, anchors.anchored_hashes(published))
    bad = verdict.first_bad or replay.first_difference(store)
    return f"{bad.table} {bad.row} {bad.what}" if bad else ""
