"""Machines that share a database hear of each other, with SMARTOPS_LOCKS=database.

Each process of a home folder (worker, reconciler, runs) counts its home's beats up every 2 s. Who
listens goes by its own clock and by whether the number grows: clocks that differ deceive nobody. A
machine is gone when it was silent for 10 s while the listener heard the database all the time.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from smartops.audit import database, models
from smartops.audit.journal import get_journal
from smartops.audit.liveness import home_id
from smartops.audit.lock_tables import machine_beat
from smartops.audit.store import Store
from smartops.errors import LockTimeout, RunTakenAway, SmartOpsError
from smartops.settings import get_settings

BEAT_S = 2.0
SILENCE_S = 10.0
_LONGEST_GAP_S = 4.0
"""A listener that heard nothing of the database itself for so long begins to listen anew."""
_ANSWER_S = 2.0
_beating: dict[int, threading.Thread] = {}
logger = logging.getLogger(__name__)


def wanted() -> bool:
    """Return whether machines are to hear of each other."""
    return get_settings().locks == "database"


def begin() -> None:
    """Let this process beat for its home as long as it lives; once is enough."""
    if not wanted() or os.getpid() in _beating:
        return
    thread = threading.Thread(target=_beat, name="smartops-beat", daemon=True)
    _beating.clear()
    _beating[os.getpid()] = thread
    thread.start()


def _beat() -> None:
    home = str(home_id(get_settings().journal_dir))
    pause = threading.Event()
    engine = database.connect(
        database.parse(get_settings().store_url), own=True, limit_s=round(_ANSWER_S)
    )
    while True:
        try:
            with engine.connect() as connection:
                while True:
                    beat(connection, home)
                    pause.wait(BEAT_S)
        except (SmartOpsError, SQLAlchemyError, OSError) as error:
            logger.debug("no beat: %s", error)
            pause.wait(BEAT_S / 2)


def beat(connection: sa.Connection, home: str) -> None:
    """Count a home's beats up by one. The time is the database's, and for people to look at."""
    values = {"host": socket.gethostname(), "at": sa.func.utc_timestamp(6)}
    mine = sa.update(machine_beat).where(machine_beat.c.home == home)
    if not connection.execute(mine.values(beats=machine_beat.c.beats + 1, **values)).rowcount:
        with contextlib.suppress(IntegrityError):  # another process was first
            connection.execute(sa.insert(machine_beat).values(home=home, beats=1, **values))


def beats(store: Store) -> dict[UUID, int]:
    """Return the number of beats of each home. Raises StoreUnavailable."""
    with store.reading() as connection:
        query = sa.select(machine_beat.c.home, machine_beat.c.beats)
        return {UUID(row.home): row.beats for row in connection.execute(query)}


class Silence:
    """Who has been silent for too long, as one listener sees it. Pure: it is told the time."""

    def __init__(self) -> None:
        self._heard: dict[UUID, tuple[int, float]] = {}
        self._looked: float | None = None

    def gone(self, seen: Mapping[UUID, int], now: float) -> set[UUID]:
        """Return the homes that are gone; ``now`` is in seconds of a clock that never jumps.

        Where the listener itself has not heard the database for a while, all begin anew.
        """
        if self._looked is not None and now - self._looked > _LONGEST_GAP_S:
            self._heard.clear()
        self._looked = now
        for home, count in seen.items():
            if self._heard.get(home, (None, 0.0))[0] != count:
                self._heard[home] = (count, now)
        return {home for home in seen if now - self._heard[home][1] >= SILENCE_S}


# --- in a run -----------------------------------------------------------------------------------


def check_still_ours(run: UUID) -> None:
    """Make sure that no other machine has given this run its end, before it makes an effect.

    A machine that was paused or cut off may come back as a stranger: it must not go on. Raises
    RunTakenAway; LockTimeout when the database cannot be asked within the lock timeout.
    """
    if not wanted():
        return
    limit_s = get_settings().lock_timeout.total_seconds()
    store_url = database.parse(get_settings().store_url)
    engine = database.connect(store_url, own=True, limit_s=round(_ANSWER_S))
    waited, pause = 0.0, threading.Event()
    while True:
        try:
            with engine.connect() as connection:
                _refuse_if_taken(connection, run)
        except DBAPIError as error:
            if waited >= limit_s:
                raise LockTimeout(
                    f"whether this run was given up cannot be asked for {limit_s:g} s: {error.orig}"
                ) from error
        else:
            return
        pause.wait(BEAT_S / 2)
        waited += BEAT_S / 2 + _ANSWER_S


def _refuse_if_taken(connection: Any, run: UUID) -> None:
    table = models.job_run
    mine = (table.c.id == run) & (table.c.process == get_journal().process)
    by_others = table.c.ended_at.is_not(None) & table.c.evidence.is_not(None)
    row = connection.execute(sa.select(table.c.message).where(mine & by_others)).first()
    if row is not None:
        raise RunTakenAway(
            f"this run was given its end while its machine was not heard of: {row.message}",
            hint="Look at what it did, and start it again or take it up.",
        )
