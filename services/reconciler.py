"""The reconciler: compares Prefect with the record, so that no run is without an end.

``python -m services.reconciler``, one on each machine that has a worker. It listens to Prefect's
events to be quick, and looks at everything at intervals, so that a lost event loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
from filelock import FileLock, Timeout
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from websockets.exceptions import WebSocketException

from reports.approvals import open_approvals
from services.dead_runs import DeadRuns
from services.lasting import lasting
from services.other_runs import OtherRuns
from services.outside_changes import OutsideChanges
from services.prefect_api import PrefectApi, prefect_api
from services.slots import Slots
from smartops.audit import beats, schema
from smartops.audit.history import waiting_runs
from smartops.audit.leader import Leader
from smartops.audit.progress import clear_old
from smartops.audit.store import Store
from smartops.errors import BadInput, JournalUnavailable, PrefectUnavailable, StoreUnavailable
from smartops.settings import get_settings

logger = logging.getLogger("services.reconciler")
_LOOK_BACK = timedelta(days=7)
"""How far it looks back when it starts: as long as Prefect keeps its events."""
_OVERLAP = timedelta(minutes=2)
_SLOTS_EVERY_S = 15.0
_CLEAR_EVERY_S = 3600.0
_LEAST_PAUSE_S = 0.5
_REST = 4
"""So many times as long as a round took: what it wants of the server stays a small share."""
_LISTEN_S = 1.0
_NOT_URGENT = ("Scheduled", "Late", "Pending", "Running")
"""States that are looked into at the interval: a run that begins has no time to spare for it."""


def _pause_s(took_s: float, interval_s: float) -> float:
    """Return how long a round is rested from at the least: a busy server is asked less often."""
    return max(_LEAST_PAUSE_S, min(_REST * took_s, interval_s))


class Reconciler:
    """Compares, again and again, until it is told to stop.

    The dead are looked after in a loop of their own: what takes long elsewhere must not delay them.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._dead = DeadRuns(store, folder)
        self._others = OtherRuns(store, folder)
        self._slots = Slots(store)
        self._changes = OutsideChanges(store)
        self._leader = Leader(store)
        self._judge = Leader(store, "smartops_judge")
        self._ended_since = datetime.now(UTC) - _LOOK_BACK
        self._clear_at = 0.0
        self._slots_at = 0.0
        self._wakes = (asyncio.Event(), asyncio.Event())
        self._stopping = asyncio.Event()
        self._away: set[str] = set()

    def stop(self) -> None:
        """Let :meth:`run` end after the round that is under way."""
        self._stopping.set()
        self._wake_up()

    def _wake_up(self) -> None:
        for wake in self._wakes:
            wake.set()

    async def run(self) -> None:
        """Compare until :meth:`stop`."""
        beside = [asyncio.create_task(lasting("listening to Prefect", self._listen))]
        if beats.wanted():
            beats.begin()
            machines = lasting("listening to machines", self._listen_to_machines)
            beside.append(asyncio.create_task(machines))
        rounds = (self.look_after_the_dead, self.look_at_the_others)
        try:
            await asyncio.gather(
                *(self._again(work, wake) for work, wake in zip(rounds, self._wakes, strict=True))
            )
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            self._leader.release()
            self._judge.release()

    async def _again(self, work: Callable[[], Awaitable[None]], wake: asyncio.Event) -> None:
        interval_s = get_settings().reconcile_interval.total_seconds()
        while not self._stopping.is_set():
            wake.clear()
            began = time.monotonic()
            await self._once(work)
            pause_s = _pause_s(time.monotonic() - began, interval_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), interval_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    async def _once(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do a round. What is away is told once, and tried again; so is what nobody thought of."""
        name = work.__name__
        try:
            await work()
        except (StoreUnavailable, PrefectUnavailable, JournalUnavailable) as error:
            self._is_away(f"{name} {type(error).__name__}", error.one_line)
        except Exception:
            if f"{name} failed" not in self._away:
                logger.exception("a round of comparing failed; trying again")
                self._away.add(f"{name} failed")
        else:
            self._is_back(name)

    async def look_after_the_dead(self) -> None:
        """Give runs whose process died their end, on record and in Prefect."""
        await self._clear_old_progress()
        try:
            async with prefect_api() as api:
                active = await api.active_runs()
                await self._dead.judge(api)
                await self._dead.put_prefect_right(api, active)
        except PrefectUnavailable:
            await self._dead.judge(None)
            raise

    async def _clear_old_progress(self) -> None:
        """Delete what runs have achieved that nobody has taken up for long, once an hour."""
        if time.monotonic() < self._clear_at:
            return
        self._clear_at = time.monotonic() + _CLEAR_EVERY_S
        settings = get_settings()
        waiting = await asyncio.to_thread(waiting_runs, self._store)
        await asyncio.to_thread(clear_old, settings.progress_dir, settings.keep_progress, waiting)

    async def look_at_the_others(self) -> None:
        """Put on record the runs and the slots that belong to no machine: one reconciler does."""
        if not await asyncio.to_thread(self._leader.is_me):
            return
        now = datetime.now(UTC)
        async with prefect_api() as api:
            active = await api.active_runs()
            ended = await api.ended_runs(self._ended_since)
            whole = await self._others.look(api, {run.id: run for run in (*active, *ended)})
            if whole:
                self._ended_since = max(self._ended_since, now - _OVERLAP)
            else:
                self._wakes[1].set()
            await self._end_waiting(api, now)
            if time.monotonic() >= self._slots_at:
                self._slots_at = time.monotonic() + _SLOTS_EVERY_S
                deployments = await api.deployments()
                await self._slots.tell(api, deployments, now)
                await self._changes.tell(deployments, now)

    async def _end_waiting(self, api: PrefectApi, now: datetime) -> None:
        """Let runs go on whose approval nobody has given in time: the job says what counts then."""
        for waiting in await asyncio.to_thread(open_approvals, self._store):
            limit = waiting.within_s
            if limit is not None and now >= waiting.asked_at + timedelta(seconds=limit):
                await api.go_on(waiting.run_id, "nobody answered in time")

    async def _listen(self) -> None:
        """Wake up when a run ends. What only begins can wait for the interval, which is the net."""
        states = EventNameFilter(
            prefix=["prefect.flow-run."],
            exclude_name=[f"prefect.flow-run.{name}" for name in _NOT_URGENT],
        )
        while True:
            try:
                async with get_events_subscriber(filter=EventFilter(event=states)) as subscriber:
                    async for _ in subscriber:
                        self._wake_up()
            except (OSError, httpx.HTTPError, WebSocketException) as error:
                logger.debug("the stream of events ended: %s", error)
            await asyncio.sleep(get_settings().reconcile_interval.total_seconds())

    async def _listen_to_machines(self) -> None:
        """Note which machines are gone; one reconciler of all machines judges them."""
        silence = beats.Silence()
        try:
            while True:
                gone = await self._gone(silence)
                if gone - self._dead.gone:
                    logger.warning("not heard of any more: %s", ", ".join(map(str, gone)))
                    self._wake_up()
                self._dead.gone = gone
                await asyncio.sleep(_LISTEN_S)
        finally:
            self._dead.gone = frozenset()  # who does not listen judges nobody

    async def _gone(self, silence: beats.Silence) -> frozenset[UUID]:
        """Return the machines that are gone, none where another reconciler judges them."""
        with contextlib.suppress(StoreUnavailable):
            seen = await asyncio.to_thread(beats.beats, self._store)
            if gone := silence.gone(seen, time.monotonic()):
                mine = await asyncio.to_thread(self._judge.is_me)
                return frozenset(gone) if mine else frozenset()
        return frozenset()

    def _is_away(self, what: str, text: str) -> None:
        if what not in self._away:
            logger.warning("%s; trying again", text)
            self._away.add(what)

    def _is_back(self, name: str) -> None:
        back = {what for what in self._away if what.startswith(name)}
        if back:
            logger.warning("%s: all is back", name.replace("_", " "))
            self._away -= back


async def _main() -> None:
    settings = get_settings()
    store = Store(settings.store_url)
    with contextlib.suppress(StoreUnavailable):
        schema.migrate(store)
    reconciler = Reconciler(store, settings.journal_dir)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, reconciler.stop)
    logger.info("comparing Prefect with %s", store.shown_url)
    await reconciler.run()
    store.close()


def main() -> None:
    """Run the reconciler until SIGTERM or SIGINT; only one for a home folder."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    home = get_settings().home
    home.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(home / "reconciler.lock", timeout=10):
            asyncio.run(_main())
    except Timeout:
        raise BadInput(f"another reconciler is running for {home}") from None


if __name__ == "__main__":
    main()
