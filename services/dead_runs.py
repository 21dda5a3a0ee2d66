"""Finds runs whose process died, puts their end on record, and tells Prefect."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psutil
from prefect.client.schemas.objects import FlowRun, StateType

from services.foreign_runs import ForeignRuns, end_state
from services.prefect_api import PrefectApi
from smartops.audit import liveness, open_runs, shipping, verdict
from smartops.audit.journal import get_journal
from smartops.audit.open_runs import Claim, KnownRun, OpenRun
from smartops.audit.store import Store

logger = logging.getLogger(__name__)
_PREFECT_STATES = {
    "completed": StateType.COMPLETED,
    "failed": StateType.FAILED,
    "needs_decision": StateType.FAILED,
    "cancelled": StateType.CANCELLED,
    "crashed": StateType.CRASHED,
}
_OWN_WORD = timedelta(seconds=15)
"""How long a process may take from its run's end on record to Prefect's own state."""
_OTHERS_WORD = timedelta(seconds=60)
"""How long the record of a run that Prefect calls ended may be on its way from another machine."""
_WITNESS_S = 5.0
_NEVER_STARTED = "its worker died before the run began: nothing was done"


class DeadRuns:
    """Looks after the runs of one home folder: its processes can be told dead from living."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._home = liveness.home_id(folder)
        self._seen_dead: dict[UUID, float] = {}

    def end_the_dead(self) -> list[OpenRun]:
        """Put the end of runs on record whose process died; return them.

        A run is judged only when all that its process wrote is in the store: whether it is dead is
        asked first, then its journal is shipped, then the store is read. Raises StoreUnavailable.
        """
        suspects = [run for run in open_runs.open_runs(self._store) if self._is_dead(run)]
        if not suspects:
            return []
        shipping.ship_all(self._store, self._folder)
        still_open = {run.id: run for run in open_runs.open_runs(self._store)}
        dead = [
            run
            for run in suspects
            if still_open.get(run.id) == run and not self._has_more_to_say(run)
        ]
        claims = open_runs.claims_of(self._store, [run.id for run in dead])
        dead = [run for run in dead if not self._witness_may_speak(run, claims.get(run.id))]
        for run in dead:
            steps = open_runs.open_steps(self._store, run.id)
            last = open_runs.last_word(self._store, run.id)
            claim = claims.get(run.id)
            get_journal().append(*verdict.of_dead_run(run, steps, last, claim))
            self._seen_dead.pop(run.id, None)
            logger.warning("run %s of %s: its process %s died", run.id, run.job, run.pid)
        if dead:
            shipping.ship_all(self._store, self._folder)
        return dead

    def _witness_may_speak(self, run: OpenRun, claim: Claim | None) -> bool:
        """Return whether the worker is about to tell how the process ended."""
        if claim is None or claim.exited_at is not None or claim.home != self._home:
            return False
        if liveness.is_dead(self._folder, claim.process):
            return False
        first = self._seen_dead.setdefault(run.id, time.monotonic())
        return time.monotonic() - first < _WITNESS_S

    def _is_dead(self, run: OpenRun) -> bool:
        if run.process is None or run.home != self._home:
            return False
        return liveness.is_dead(self._folder, run.process)

    def _has_more_to_say(self, run: OpenRun) -> bool:
        """Return whether a journal of the process is not in the store, as one that is damaged."""
        return run.process is not None and shipping.is_waiting(self._folder, run.process)

    # --- Prefect ------------------------------------------------------------------------------

    async def put_prefect_right(self, api: PrefectApi, active: list[FlowRun]) -> None:
        """Give runs that Prefect takes for active the end that is on record, or that is plain."""
        ids = [run.id for run in active]
        known = await asyncio.to_thread(open_runs.known_runs, self._store, ids)
        claims = await asyncio.to_thread(open_runs.claims_of, self._store, ids)
        for run in active:
            record = known.get(run.id)
            if record is not None:
                await self._as_recorded(api, run, record)
            elif self._never_came(run, claims.get(run.id)):
                logger.warning("run %s: %s", run.id, _NEVER_STARTED)
                await api.end_run(run.id, StateType.CRASHED, _NEVER_STARTED)

    async def _as_recorded(self, api: PrefectApi, run: FlowRun, record: KnownRun) -> None:
        state = _PREFECT_STATES.get(record.state)
        if state is None or record.ended_at is None:
            return
        concluded = record.told_by == "own" and not self._process_lives(record)
        if concluded or datetime.now(UTC) - record.ended_at > _OWN_WORD:
            logger.warning("run %s ended as %s; Prefect is told", run.id, record.state)
            await api.end_run(run.id, state, record.message or "As it stands on record.")

    def _process_lives(self, record: KnownRun) -> bool:
        if record.process is None or record.home != self._home:
            return True
        return not liveness.is_dead(self._folder, record.process)

    def _never_came(self, run: FlowRun, claim: Claim | None) -> bool:
        """Return whether a run was taken by a worker that died, and no process of it is left."""
        if claim is None or claim.home != self._home:
            return False
        if not liveness.is_dead(self._folder, claim.process):
            return False
        if claim.exited_at is not None:
            return True
        if claim.pid is None:
            # Between its start and the note of its id the process may live; it would speak soon.
            return _age(run) > _OWN_WORD
        return not _lives(claim)

    async def foreign(
        self, api: PrefectApi, runs: Mapping[UUID, FlowRun], foreign: ForeignRuns
    ) -> None:
        """Have runs told that do not put themselves on record."""
        known = await asyncio.to_thread(open_runs.known_runs, self._store, list(runs))
        for run in runs.values():
            record = known.get(run.id)
            if record is None:
                if run.state_type is not StateType.PENDING and _age(run) > timedelta(seconds=2):
                    await foreign.tell(api, run, known=False)
            elif record.told_by != "own":
                if record.ended_at is None or foreign.follows(run.id):
                    await foreign.tell(api, run, known=True)
            elif record.ended_at is None:
                self._believe_prefect(run, record)

    def _believe_prefect(self, run: FlowRun, record: KnownRun) -> None:
        """End a run of another machine that Prefect calls ended, and that says nothing itself."""
        state = end_state(run)
        if state is None or record.home == self._home or _age(run) < _OTHERS_WORD:
            return
        message = (run.state.message if run.state else None) or ""
        evidence = {"prefect_state": run.state_name}
        event = verdict.end_of_run(run.id, state, message, evidence, told_by="prefect")
        get_journal().append(event)


def _age(run: FlowRun) -> timedelta:
    """Return how long a run has been in its state."""
    return datetime.now(UTC) - run.state.timestamp if run.state else timedelta()


def _lives(claim: Claim) -> bool:
    """Return whether the process that a worker started for a run lives."""
    if claim.pid is None or claim.started_at is None:
        return False
    try:
        process = psutil.Process(claim.pid)
        began = datetime.fromtimestamp(process.create_time(), UTC)
        return process.status() != psutil.STATUS_ZOMBIE and abs(
            began - claim.started_at
        ) < timedelta(seconds=10)
    except psutil.NoSuchProcess:
        return False
