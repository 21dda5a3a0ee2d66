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
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from filelock import FileLock, Timeout
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from websockets.exceptions import WebSocketException

from services.dead_runs import DeadRuns
from services.foreign_runs import ForeignRuns
from services.prefect_api import PrefectApi, prefect_api
from services.slots import Slots
from smartops.audit import schema
from smartops.audit.store import Store
from smartops.errors import BadInput, JournalUnavailable, PrefectUnavailable, StoreUnavailable
from smartops.settings import get_settings

logger = logging.getLogger("services.reconciler")
_LOOK_BACK = timedelta(days=7)
"""How far it looks back when it starts: as long as Prefect keeps its events."""
_OVERLAP = timedelta(minutes=2)
_SLOTS_EVERY_S = 15.0
_LEAST_PAUSE_S = 0.5


class Reconciler:
    """Compares, again and again, until it is told to stop."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._dead = DeadRuns(store, folder)
        self._foreign = ForeignRuns()
        self._slots = Slots(store)
        self._ended_since = datetime.now(UTC) - _LOOK_BACK
        self._slots_at = 0.0
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._away: set[str] = set()

    def stop(self) -> None:
        """Let :meth:`run` end after the round that is under way."""
        self._stopping.set()
        self._wake.set()

    async def run(self) -> None:
        """Compare until :meth:`stop`."""
        interval_s = get_settings().reconcile_interval.total_seconds()
        listening = asyncio.create_task(self._listen())
        try:
            while not self._stopping.is_set():
                await self.once()
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), interval_s)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _LEAST_PAUSE_S)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def once(self) -> None:
        """Compare once. What is away is told once, and tried again."""
        try:
            await asyncio.to_thread(self._dead.end_the_dead)
            self._is_back("store")
        except StoreUnavailable as error:
            self._is_away("store", error.one_line)
            return
        except JournalUnavailable as error:
            self._is_away("journal", error.one_line)
            return
        self._is_back("journal")
        try:
            async with prefect_api() as api:
                await self._compare(api)
            self._is_back("Prefect")
        except PrefectUnavailable as error:
            self._is_away("Prefect", error.one_line)
        except StoreUnavailable as error:
            self._is_away("store", error.one_line)
        except JournalUnavailable as error:
            self._is_away("journal", error.one_line)

    async def _compare(self, api: PrefectApi) -> None:
        now = datetime.now(UTC)
        active = await api.active_runs()
        ended = await api.ended_runs(self._ended_since)
        await self._dead.put_prefect_right(api, active)
        await self._dead.foreign(api, {run.id: run for run in (*active, *ended)}, self._foreign)
        self._ended_since = max(self._ended_since, now - _OVERLAP)
        if time.monotonic() >= self._slots_at:
            self._slots_at = time.monotonic() + _SLOTS_EVERY_S
            await self._slots.tell(api, now)

    async def _listen(self) -> None:
        """Wake up when a run changes its state. Without the stream the interval is the net."""
        states = EventNameFilter(prefix=["prefect.flow-run."])
        while True:
            try:
                async with get_events_subscriber(filter=EventFilter(event=states)) as subscriber:
                    async for _ in subscriber:
                        self._wake.set()
            except (OSError, httpx.HTTPError, WebSocketException) as error:
                logger.debug("the stream of events ended: %s", error)
            await asyncio.sleep(get_settings().reconcile_interval.total_seconds())

    def _is_away(self, what: str, text: str) -> None:
        if what not in self._away:
            logger.warning("%s; trying again", text)
            self._away.add(what)

    def _is_back(self, what: str) -> None:
        if what in self._away:
            logger.warning("the %s is back", what)
            self._away.discard(what)


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
