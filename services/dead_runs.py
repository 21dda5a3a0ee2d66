"""Finds runs whose process died, puts their end on record, and tells Prefect."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psutil
from prefect.client.schemas.objects import FlowRun, StateType

from services.prefect_api import AWAY, PrefectApi
from smartops.audit import liveness, open_runs, shipping, verdict
from smartops.audit.events import Event
from smartops.audit.journal import get_journal
from smartops.audit.leader import Leader
from smartops.audit.open_runs import Claim, KnownRun, OpenRun
from smartops.audit.store import Store

logger = logging.getLogger(__name__)
PREFECT_STATES = {
    "completed": StateType.COMPLETED,
    "failed": StateType.FAILED,
    "needs_decision": StateType.FAILED,
    "cancelled": StateType.CANCELLED,
    "crashed": StateType.CRASHED,
}
_OWN_WORD = timedelta(seconds=15)
"""How long a process that is not known may take to say that it lives."""
_WITNESS_S = 5.0
"""How long a worker may take to say how a process of its own ended."""
_TURN_S, _TURN_LOOK_S = 5.0, 0.05
"""How long one waits for another machine that ends a run just now, and how often it looks."""
_DIED = "its process died"
_ENDS_AS: dict[StateType | None, tuple[StateType, str]] = {
    StateType.PENDING: (
        StateType.CRASHED,
        "its worker died before the run began: nothing was done",
    ),
    StateType.CANCELLING: (
        StateType.CANCELLED,
        "it was being cancelled, and no process of it is left",
    ),
}
"""What becomes of a run without a process that is not simply running."""
_LEAVES = {StateType.PAUSED, StateType.SCHEDULED}
_CANCELS = {StateType.CANCELLING, StateType.CANCELLED}


class DeadRuns:
    """Looks after the runs of one home folder: its processes can be told dead from living."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._home = liveness.home_id(folder)
        self._turn = Leader(store, "smartops_ends")
        self._seen_dead: dict[UUID, float] = {}
        self._untold: dict[UUID, tuple[StateType, str]] = {}
        """Runs that were just given their end, and Prefect has not been told."""
        self.gone: frozenset[UUID] = frozenset()
        """The homes of machines that are not heard of any more, where this one judges those."""

    def find(self) -> list[tuple[OpenRun, Claim | None]]:
        """Return the runs that are surely dead, with the worker's word on each.

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
        return [
            (run, claims.get(run.id))
            for run in dead
            if not self._witness_may_speak(run, claims.get(run.id))
        ]

    def end(self, run: OpenRun, claim: Claim | None, *, cancelled: bool = False) -> None:
        """Put the end of a dead run on record, with the evidence, unless it has one meanwhile.

        One after the other among all machines: two that conclude at once would contradict each
        other. Raises StoreUnavailable.
        """
        deadline = time.monotonic() + _TURN_S
        while not self._turn.is_me():
            if time.monotonic() > deadline:
                return  # in the next round
            time.sleep(_TURN_LOOK_S)
        try:
            known = open_runs.known_runs(self._store, [run.id]).get(run.id)
            if known is not None and known.ended_at is None:
                self._end(run, claim, cancelled=cancelled)
        finally:
            self._turn.release()

    def _end(self, run: OpenRun, claim: Claim | None, *, cancelled: bool) -> None:
        steps = open_runs.open_steps(self._store, run.id)
        last = open_runs.last_word(self._store, run.id)
        gone = run.home in self.gone
        events = verdict.of_dead_run(
            run, steps, last, claim, machine_gone=gone, cancelled=cancelled
        )
        get_journal().append(*events)
        self._seen_dead.pop(run.id, None)
        message = str(events[-1].body["message"])
        self._untold[run.id] = PREFECT_STATES[events[-1].body["state"]], message
        logger.warning("run %s of %s, process %s: %s", run.id, run.job, run.pid, message)
        shipping.ship_all(self._store, self._folder)

    def suspend(self, run: OpenRun) -> None:
        """Put on record that a run has left its process and is to be resumed."""
        text = {"message": "suspended, to be resumed in another process"}
        get_journal().append(Event("run.suspended", run.id, text))
        self._seen_dead.pop(run.id, None)
        shipping.ship_all(self._store, self._folder)

    def _witness_may_speak(self, run: OpenRun, claim: Claim | None) -> bool:
        """Return whether the worker is about to tell how the process ended."""
        if claim is None or claim.exited_at is not None or claim.home != self._home:
            return False
        if liveness.is_dead(self._folder, claim.process):
            return False
        first = self._seen_dead.setdefault(run.id, time.monotonic())
        return time.monotonic() - first < _WITNESS_S

    def _is_dead(self, run: OpenRun) -> bool:
        if run.process is None or run.home is None:
            return False
        return self._is_gone(run.home, run.process)

    def _has_more_to_say(self, run: OpenRun) -> bool:
        """Return whether a journal of the process is not in the store, as one that is damaged."""
        return run.process is not None and shipping.is_waiting(self._folder, run.process)

    # --- with Prefect -------------------------------------------------------------------------

    async def judge(self, api: PrefectApi | None) -> None:
        """Give dead runs their end. One that exited in peace may be suspended: Prefect knows."""
        for run, claim in await asyncio.to_thread(self.find):
            in_peace = claim is None or claim.exit_status == 0
            if in_peace and api is None:
                continue  # it has to wait for Prefect's word
            seen = await api.run(run.id) if api is not None else None
            if in_peace and seen is not None and seen.state_type in _LEAVES:
                await asyncio.to_thread(self.suspend, run)
            else:
                cancelled = seen is not None and seen.state_type in _CANCELS
                await asyncio.to_thread(self.end, run, claim, cancelled=cancelled)

    async def put_prefect_right(self, api: PrefectApi, active: list[FlowRun]) -> None:
        """Give runs that Prefect takes for active the end that is on record, or that is plain."""
        await self._tell_of_the_dead(api)
        ids = [run.id for run in active]
        known = await asyncio.to_thread(open_runs.known_runs, self._store, ids)
        claims = await asyncio.to_thread(open_runs.claims_of, self._store, ids)
        for run in active:
            record = known.get(run.id)
            try:
                if record is not None and record.ended_at is not None:
                    await self._as_recorded(api, run, record)
                elif record is None or record.told_by != "own":
                    await self._if_its_process_is_gone(api, run, claims.get(run.id))
            except AWAY:
                raise
            except Exception:
                logger.exception("run %s could not be put right in Prefect", run.id)

    async def _tell_of_the_dead(self, api: PrefectApi) -> None:
        """Tell Prefect of the dead in whatever state it has them: paused, waiting for a retry."""
        for run_id, (state, message) in list(self._untold.items()):
            run = await api.run(run_id)
            if run is not None and (run.state is None or not run.state.is_final()):
                await api.end_run(run_id, state, message)
            del self._untold[run_id]

    async def _as_recorded(self, api: PrefectApi, run: FlowRun, record: KnownRun) -> None:
        """Give a run the end that its dead process put on record, unless it was begun again."""
        state = PREFECT_STATES.get(record.state)
        if state is None or record.ended_at is None or record.told_by != "own":
            return
        begun_again = run.state is not None and run.state.timestamp > record.ended_at
        if begun_again and run.state_type is not StateType.CANCELLING:
            return
        if record.home is not None and self._is_gone(record.home, record.process):
            logger.warning("run %s ended as %s; Prefect is told", run.id, record.state)
            await api.end_run(run.id, state, record.message or "As it stands on record.")

    def _is_gone(self, home: UUID, process: UUID | None) -> bool:
        """Return whether a process has died, or its whole machine is not heard of any more."""
        if home != self._home:
            return home in self.gone
        return process is not None and liveness.is_dead(self._folder, process)

    async def _if_its_process_is_gone(
        self, api: PrefectApi, run: FlowRun, claim: Claim | None
    ) -> None:
        """End a run that a worker of this home took, and of which no process is left."""
        judged = claim is not None and claim.home in {self._home, *self.gone}
        if claim is None or not judged or not self._came_to_nothing(run, claim):
            return
        state, message = _ENDS_AS.get(run.state_type, (StateType.CRASHED, _DIED))
        logger.warning("run %s: %s", run.id, message)
        await api.end_run(run.id, state, message)

    def _came_to_nothing(self, run: FlowRun, claim: Claim) -> bool:
        now = datetime.now(UTC)
        if claim.exited_at is not None:
            # The worker, or what took it up after it, had its time to say so itself.
            newer = run.state is not None and run.state.timestamp > claim.exited_at
            return not newer and now - claim.exited_at > _OWN_WORD
        if not self._is_gone(claim.home, claim.process):
            return False
        if claim.home in self.gone:
            return True
        if claim.pid is None:
            # Between its start and the note of its id the process may live; it would speak soon.
            return run.state is not None and now - run.state.timestamp > _OWN_WORD
        return not _lives(claim)


def _lives(claim: Claim) -> bool:
    """Return whether the process that a worker started for a run lives."""
    if claim.pid is None or claim.started_at is None:
        return False
    try:
        process = psutil.Process(claim.pid)
        began = datetime.fromtimestamp(process.create_time(), UTC)
        alive = process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    return alive and abs(began - claim.started_at) < timedelta(seconds=10)
