"""Decides for each run that Prefect knows who puts it on record: itself, another machine, or we."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, StateType

from services.foreign_runs import SETTLED, ForeignRuns, end_state
from services.prefect_api import AWAY, PrefectApi
from smartops.audit import liveness, open_runs, shipping, verdict
from smartops.audit.journal import get_journal
from smartops.audit.open_runs import KnownRun
from smartops.audit.store import Store
from tasks.run_context import CANCELLED_BY

logger = logging.getLogger(__name__)
_OTHERS_WORD = timedelta(seconds=60)
"""How long the record of a run that Prefect calls ended may be on its way from another machine."""
_FIRST_WORD = timedelta(seconds=3)
"""How long a run may take from its start to its first word on record."""
_ENDED_A_ROUND = 20
BY_UI = "Prefect's UI"
"""Who cancels a run there; it knows no people."""


class OtherRuns:
    """Puts on record what nobody else does."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._home = liveness.home_id(folder)
        self._foreign = ForeignRuns(store)

    async def look(self, api: PrefectApi, runs: Mapping[UUID, FlowRun]) -> bool:
        """Tell of the runs; return whether that were all of them, as a round has its limit."""
        known = await asyncio.to_thread(open_runs.known_runs, self._store, list(runs))
        if any(run not in known for run in runs):
            # What our own processes have said is on record before anything is said for them.
            await asyncio.to_thread(shipping.ship_all, self._store, self._folder)
            known = await asyncio.to_thread(open_runs.known_runs, self._store, list(runs))
        told = 0
        for run in runs.values():
            if told >= _ENDED_A_ROUND:
                return False
            try:
                told += await self._look_at(api, run, known.get(run.id))
            except AWAY:
                raise
            except Exception:
                logger.exception("run %s could not be put on record", run.id)
        return True

    async def _look_at(self, api: PrefectApi, run: FlowRun, record: KnownRun | None) -> bool:
        """Look at one run; return whether it cost something."""
        if record is None:
            waits = run.state_type is StateType.PENDING or age(run) < _FIRST_WORD
            if waits and end_state(run) is None:
                return False
            await self._foreign.tell(api, run)
            return True
        if record.told_by == "own":
            if self._foreign.follows(run.id):
                await self._foreign.hand_over(api, run)
                return True
            if record.ended_at is None:
                if await _was_cancelled_waiting(api, run, record):
                    await api.end_in_order(run.id, str(run.labels.get(CANCELLED_BY, BY_UI)))
                    return True
                self._believe_prefect(run, record)
            return False
        again = run.state is not None and (
            record.ended_at is None or run.state.timestamp > record.ended_at + timedelta(seconds=1)
        )
        fresh = end_state(run) is not None and age(run) < 2 * SETTLED
        if again or fresh or self._foreign.follows(run.id):
            await self._foreign.tell(api, run)
            return True
        return False

    def _believe_prefect(self, run: FlowRun, record: KnownRun) -> None:
        """End a run of another machine that Prefect calls ended, and that says nothing itself."""
        state = end_state(run)
        if state is None or record.home == self._home or age(run) < _OTHERS_WORD:
            return
        message = (run.state.message if run.state else None) or ""
        steps = open_runs.open_steps(self._store, run.id)
        ends = [verdict.end_of_step(run.id, step) for step in steps]
        evidence = {"prefect_state": run.state_name}
        end = verdict.end_of_run(run.id, state, message, evidence, told_by="prefect")
        get_journal().append(*ends, end)


async def _was_cancelled_waiting(api: PrefectApi, run: FlowRun, record: KnownRun) -> bool:
    """Return whether a run was cancelled in Prefect's UI while it had no process."""
    if record.state not in {"suspended", "needs_decision"} or run.deployment_id is None:
        return False
    if run.state_type is not StateType.CANCELLED:
        return False
    before = [state for state in await api.states(run.id) if state.type is not StateType.CANCELLED]
    return bool(before) and before[-1].type in {StateType.PAUSED, StateType.SCHEDULED}


def age(run: FlowRun) -> timedelta:
    """Return how long a run has been in its state."""
    return datetime.now(UTC) - run.state.timestamp if run.state else timedelta()
