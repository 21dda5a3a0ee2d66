"""What is on record around the runs of a generated plant: readings, requests, people."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from benchmarks.year import JOBS, Plant
from smartops.audit import models
from smartops.audit.bulk_insert import bulk_insert
from smartops.audit.store import Store

Row = dict[str, Any]
_PEOPLE = ("ines", "marek", "sofia")
_TAGS = {
    "line-1": (("speed", "1/min", 118.0, 6.0), ("temperature", "°C", 64.0, 3.0)),
    "tank-2": (("tank_level", "%", 62.0, 14.0),),
    "press-4": (("pressure", "bar", 5.8, 0.4),),
}
"""By device: tag, unit, usual value, and how far it strays."""


def load_around(store: Store, plant: Plant) -> None:
    """Add to a store with a plant's runs what was read, asked for, left alone and decided."""
    chance = random.Random(plant.seed)
    waiting: dict[str, list[Row]] = {}
    for table, row in _rows(plant, chance):
        waiting.setdefault(table, []).append(row)
    with store.transaction() as connection:
        for table, rows in waiting.items():
            names = [column.name for column in models.metadata.tables[table].columns]
            values = [[row.get(name) for name in names] for row in rows]
            bulk_insert(connection, table, names, values)


def _rows(plant: Plant, chance: random.Random) -> Iterator[tuple[str, Row]]:
    hours = int(plant.length / timedelta(hours=1))
    for hour in range(hours):
        at = plant.start + timedelta(hours=hour)
        for device in _TAGS:
            yield from _readings(device, at, chance)
            yield "device_exchange", _exchange(device, at, chance)
    for day in range(plant.length.days):
        midnight = plant.start + timedelta(days=day)
        for device in _TAGS:
            if chance.random() < 0.3:
                yield from _absence(device, midnight, chance)
        yield from _people(midnight, chance)


def _id(at: datetime, chance: random.Random) -> UUID:
    tail = chance.getrandbits(62)
    return UUID(int=int(at.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | tail)


def _readings(device: str, at: datetime, chance: random.Random) -> Iterator[tuple[str, Row]]:
    for item, (tag, unit, usual, strays) in enumerate(_TAGS[device]):
        for minute in (0, 15, 30, 45):
            moment = at + timedelta(minutes=minute, seconds=chance.uniform(0, 9))
            good = chance.random() > 0.006
            value = round(chance.gauss(usual, strays), 2) if good else None
            stream = _id(moment, chance)
            yield (
                "reading",
                {
                    "stream": stream, "seq": 1, "item": item, "run_id": stream,
                    "step_run_id": stream, "device": device, "tag": tag, "unit": unit,
                    "value": None if value is None else str(value), "number": value,
                    "quality": "good" if good else "bad",
                    "reason": "" if good else "the device did not answer within 2 s",
                    "received_at": moment,
                },
            )  # fmt: skip


def _exchange(device: str, at: datetime, chance: random.Random) -> Row:
    asked = chance.randint(180, 260)
    lost = sum(chance.random() < 0.002 for _ in range(asked))
    step = _id(at, chance)
    return {
        "step_run_id": step, "device": device, "run_id": step, "requests": asked,
        "answered": asked - lost, "unanswered": lost, "at": at + timedelta(minutes=59),
        "total_s": (asked - lost) * chance.uniform(0.006, 0.011),
        "longest_s": chance.uniform(0.05, 0.4),
    }  # fmt: skip


def _absence(device: str, midnight: datetime, chance: random.Random) -> Iterator[tuple[str, Row]]:
    since = midnight + timedelta(seconds=chance.uniform(0, 80_000))
    back = since + timedelta(seconds=chance.uniform(60, 1500))
    for state, at in (("quarantined", since), ("back", back)):
        yield (
            "device_change",
            {
                "id": _id(at, chance), "run_id": _id(at, chance), "device": device, "part": "",
                "resource": f"tcp://{device}:502", "state": state, "failures": 3,
                "reason": "timed out after 2 s", "since": since, "at": at,
            },
        )  # fmt: skip


def _people(midnight: datetime, chance: random.Random) -> Iterator[tuple[str, Row]]:
    at = midnight + timedelta(hours=chance.uniform(7, 16))
    if chance.random() < 0.5:
        yield (
            "job_change",
            {
                "id": _id(at, chance), "job": chance.choice(JOBS).name, "action": "updated",
                "revision": f"{chance.getrandbits(256):064x}",
                "before": f"{chance.getrandbits(256):064x}",
                "person": chance.choice(_PEOPLE), "source": "job apply", "at": at,
            },
        )  # fmt: skip
    run = _id(at, chance)
    asked: Row = {"run_id": run, "step": "approve", "subject": "morning-round: may it start?"}
    later = at + timedelta(minutes=chance.uniform(2, 40))
    said = "granted" if chance.random() < 0.9 else "denied"
    for state, person, moment in (("asked", "", at), (said, chance.choice(_PEOPLE), later)):
        own = {"id": _id(moment, chance), "state": state, "person": person, "at": moment}
        yield (
            "approval",
            {**asked, **own, "comment": "" if state != "denied" else "the line is down"},
        )
