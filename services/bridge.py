"""The device bridge: what happens at the plant becomes Prefect's events and starts jobs, once each.

``python -m services.bridge FILE``. What it takes stands in its ledger before anything is done with
it; a run is made with the event's id as its key, so that neither a restart nor an answer that got
lost starts a second one.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from prefect.client.orchestration import PrefectClient, get_client

from services.bridge_ledger import Ledger
from services.bridge_sources import AWAY, STARTING, STOPPED, MessageListener, TagListener
from smartops.errors import BadInput, PrefectUnavailable, SmartOpsError
from smartops.jobs.event_sources import MessageSource, SourceFile, load_sources
from smartops.settings import get_settings

logger = logging.getLogger("services.bridge")
_LONGEST_PAUSE_S = 30.0
_TIDY_S = 3600.0


def ledger_path() -> Path:
    """Return where the bridge of this home keeps what it remembers."""
    return get_settings().home / "bridge.sqlite"


class Bridge:
    """Listens to all sources of a file until it is cancelled."""

    def __init__(self, file: SourceFile, ledger: Ledger, client: PrefectClient) -> None:
        self._sources: list[MessageListener | TagListener] = [
            MessageListener(source, ledger, client)
            if isinstance(source, MessageSource)
            else TagListener(source, ledger, client)
            for source in file.sources
        ]
        self._ledger = ledger

    async def run(self) -> None:
        """Listen; the trouble of one source is none of the others'."""
        self._ledger.forget_sources({listener.name for listener in self._sources})
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_tidy())
                for listener in self._sources:
                    group.create_task(_keep_listening(listener))
        finally:
            for listener in self._sources:
                with suppress(sqlite3.Error):
                    listener.say(STOPPED)

    async def _keep_tidy(self) -> None:
        while True:
            with suppress(sqlite3.Error):
                self._ledger.forget_old()
            await asyncio.sleep(_TIDY_S)


async def _keep_listening(listener: MessageListener | TagListener) -> None:
    pause_s = 1.0
    while True:
        problem, listener.was_heard = "", False
        try:
            listener.say(STARTING)
            await listener.listen()
        except SmartOpsError as error:
            problem = error.one_line
        except Exception as error:  # what nobody thought of must not end the other sources
            logger.exception("source %s", listener.name)
            problem = f"{type(error).__name__}: {error}"
        with suppress(sqlite3.Error):  # a full disk: it is tried again like all else
            listener.say(AWAY, problem)
        pause_s = 1.0 if listener.was_heard else min(2 * pause_s, _LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s)


def _lock() -> FileLock:
    path = ledger_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_suffix(".lock"))


def is_running() -> bool:
    """Return whether a bridge of this home runs now."""
    lock = _lock()
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False


async def serve(file: SourceFile) -> None:
    """Run the bridge of this home until it is cancelled. Raises BadInput when one runs already."""
    lock = _lock()
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise BadInput(f"another bridge is running for {get_settings().home}") from None
    async with AsyncExitStack() as open_things:
        open_things.callback(lock.release)
        ledger = Ledger(ledger_path())
        open_things.callback(ledger.close)
        client = await open_things.enter_async_context(get_client())
        await Bridge(file, ledger, client).run()


@contextmanager
def readable_ledger() -> Iterator[Ledger]:
    """Give what the bridge of this home remembers. Raises PrefectUnavailable where none has run."""
    path = ledger_path()
    if not path.exists():
        raise PrefectUnavailable(
            "no bridge has run for this home folder",
            hint="Start it with `smartops bridge run FILE`.",
        )
    with closing(Ledger(path)) as ledger:
        yield ledger


async def until_signal(file: SourceFile) -> None:
    """Run the bridge until SIGTERM or SIGINT."""
    task = asyncio.create_task(serve(file))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def main() -> None:
    """Run the bridge until SIGTERM or SIGINT."""
    text = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=text, force=True)  # Prefect has set its own
    for name in ("httpx", "websockets"):
        logging.getLogger(name).setLevel(logging.WARNING)
    file = load_sources(Path(sys.argv[1]))
    logger.info("listening to %s", ", ".join(source.name for source in file.sources))
    asyncio.run(until_signal(file))


if __name__ == "__main__":
    main()
