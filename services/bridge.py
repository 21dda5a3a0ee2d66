"""The device bridge: what happens at the plant becomes Prefect's events and starts jobs, once each.

``python -m services.bridge FILE``. What it takes stands in its ledger before anything is done with
it; a run is made with the event's id as its key, so that neither a restart nor an answer that got
lost starts a second one.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    closing,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from prefect.client.orchestration import PrefectClient, get_client
from uuid6 import uuid7

from blocks import MqttBroker, OpcUaServer
from blocks.connection import load_connection
from services import devices
from services.bridge_changes import Bucket, Change, Changes, as_event
from services.bridge_dispatch import deal_with
from services.bridge_ledger import Ledger
from smartops.audit.liveness import home_id
from smartops.drivers.mqtt import Message, MqttDriver
from smartops.drivers.readings import Reading
from smartops.errors import BadInput, PrefectUnavailable, SmartOpsError, TemplateError
from smartops.jobs import templating
from smartops.jobs.event_sources import (
    ROOT,
    MessageSource,
    SourceFile,
    TagSource,
    counts,
    load_sources,
)
from smartops.settings import get_settings
from tasks.device import Device

logger = logging.getLogger("services.bridge")
_LONGEST_PAUSE_S = 30.0
_LOOK_S = 1.0
_MOST_WAITING = 10_000
"""Readings; with more, an OPC UA server has to keep them, and says when it could not."""
STARTING, LISTENING, AWAY = "starting", "listening", "away"
WAITING, STOPPED = "waiting for Prefect", "stopped"


def ledger_path() -> Path:
    """Return where the bridge of this home keeps what it remembers."""
    return get_settings().home / "bridge.sqlite"


class Bridge:
    """Listens to all sources of a file until it is cancelled."""

    def __init__(self, file: SourceFile, ledger: Ledger, client: PrefectClient) -> None:
        self._file = file
        self._ledger = ledger
        self._client = client
        self._clock: Callable[[], float] = asyncio.get_running_loop().time

    async def run(self) -> None:
        """Listen; the trouble of one source is none of the others'."""
        self._ledger.forget_sources({source.name for source in self._file.sources})
        for source in self._file.sources:
            self._ledger.say(source.name, STARTING)
        try:
            async with asyncio.TaskGroup() as group:
                for source in self._file.sources:
                    group.create_task(self._keep_listening(source))
        finally:
            for source in self._file.sources:
                self._ledger.say(source.name, STOPPED)

    async def _keep_listening(self, source: MessageSource | TagSource) -> None:
        pause_s = 1.0
        while True:
            began = self._clock()
            try:
                await (
                    self._messages(source)
                    if isinstance(source, MessageSource)
                    else self._tags(source)
                )
            except SmartOpsError as error:
                self._say(source, AWAY, error.one_line)
            except Exception as error:  # what nobody thought of must not end the other sources
                logger.exception("source %s", source.name)
                self._say(source, AWAY, f"{type(error).__name__}: {error}")
            if self._clock() - began > _LONGEST_PAUSE_S:
                pause_s = 1.0
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _say(self, source: MessageSource | TagSource, state: str, problem: str = "") -> None:
        if self._ledger.say(source.name, state, problem):
            level = logging.INFO if state == LISTENING else logging.WARNING
            logger.log(level, "source %s: %s %s", source.name, state, problem)

    # --- messages -------------------------------------------------------------------------------

    async def _messages(self, source: MessageSource) -> None:
        bucket = Bucket(*source.rate)
        broker = await load_connection(MqttBroker, source.broker)
        for taken in self._ledger.unfinished(source.name):
            await self._until_dealt_with(source, taken.key, taken.event, "")
        session = f"smartops-{home_id(get_settings().home).hex[:12]}-{source.name}"
        async with broker.open(session=session) as client:
            await client.subscribe(source.topic, source.qos)
            self._say(source, LISTENING)
            while True:
                message = await client.next_message()
                await self._message(source, message, client, bucket)

    async def _message(
        self, source: MessageSource, message: Message, client: MqttDriver, bucket: Bucket
    ) -> None:
        """Deal with a message, and tell the broker only then that it need not come again."""
        ledger, name = self._ledger, source.name
        ledger.count(name, "received")
        event = {"source": name, **message.as_json()}
        content = hashlib.sha256(
            json.dumps([message.topic, message.payload], sort_keys=True).encode()
        ).hexdigest()
        key = (ledger.sent_before(name, content) if message.again else None) or str(uuid7())
        if message.retained and not source.retained:
            ledger.count(name, "unwanted")
        else:
            try:
                if wanted := counts(source, event):
                    given = templating.render(source.id, {ROOT: event}) if source.id else ""
                    key = f"id:{given}" if source.id else key
                else:
                    ledger.count(name, "unwanted")
            except TemplateError as error:
                wanted = False
                ledger.done(ledger.take(name, key, event, content), None, str(error))
                ledger.count(name, "refused")
                logger.warning("source %s: %s", name, error)
            if wanted:
                await asyncio.sleep(bucket.wait_s(self._clock()))
                bucket.take(self._clock())
                await self._until_dealt_with(source, key, event, content)
        client.acknowledge(message)
        ledger.acknowledged(name, key)

    async def _until_dealt_with(
        self, source: MessageSource | TagSource, key: str, event: dict[str, Any], content: str
    ) -> None:
        taken = self._ledger.take(source.name, key, event, content)
        if taken.done:
            self._ledger.count(source.name, "repeated")
            return
        pause_s, waited = 0.5, False
        while True:
            try:
                await deal_with(self._client, self._ledger, source, taken)
            except PrefectUnavailable as error:
                waited = True
                self._say(source, WAITING, error.one_line)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                if waited:
                    self._say(source, LISTENING)
                return

    # --- tags -----------------------------------------------------------------------------------

    async def _tags(self, source: TagSource) -> None:
        device = await devices.find(source.device)
        deadbands = {tag.name: tag.deadband for tag in device.tags}
        changes = Changes(deadbands, source.debounce.total_seconds(), bad_counts=source.bad)
        for plain in self._ledger.last_values(source.name).values():
            changes.counted(Reading.from_json(plain))
        bucket, queue = Bucket(*source.rate), asyncio.Queue[Reading](_MOST_WAITING)
        for taken in self._ledger.unfinished(source.name):
            await self._until_dealt_with(source, taken.key, taken.event, "")
        async with _fed(queue, device, source) as feeding:
            self._say(source, LISTENING)
            while not feeding.done():
                await self._one_look(source, changes, bucket, queue)
            await feeding  # which raises why it ended

    async def _one_look(
        self, source: TagSource, changes: Changes, bucket: Bucket, queue: asyncio.Queue[Reading]
    ) -> None:
        """Wait for a reading, or for a change to have stood long enough; deal with what counts."""
        now, wait_s = self._clock(), _LOOK_S
        due_in_s = changes.next_in_s(now)
        if due_in_s is not None:
            wait_s = min(wait_s, max(due_in_s, bucket.wait_s(now)))
        reading: Reading | None = None
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                reading = await queue.get()
        while reading is not None:
            self._ledger.count(source.name, "received")
            first = changes.see(reading, self._clock())
            if first is not None:
                self._ledger.set_last_value(source.name, first.tag, first.as_json())
            reading = None if queue.empty() else queue.get_nowait()
        for change in changes.due(self._clock()):
            if bucket.wait_s(self._clock()) > 0:
                break
            await self._change(source, change, changes, bucket)

    async def _change(
        self, source: TagSource, change: Change, changes: Changes, bucket: Bucket
    ) -> None:
        event = as_event(source.name, source.device, change)
        reading = change.now.as_json()
        self._ledger.count(source.name, "missed", change.missed)
        changes.counted(change.now)
        problem = ""
        try:
            wanted = counts(source, event)
        except TemplateError as error:
            wanted, problem = True, str(error)
        if not wanted:
            self._ledger.set_last_value(source.name, change.now.tag, reading)
            self._ledger.count(source.name, "unwanted")
            return
        taken = self._ledger.take_change(source.name, str(uuid7()), event, reading)
        if problem:
            self._ledger.done(taken, None, problem)
            self._ledger.count(source.name, "refused")
            logger.warning("source %s: %s", source.name, problem)
            return
        bucket.take(self._clock())
        await self._until_dealt_with(source, taken.key, event, "")


@asynccontextmanager
async def _fed(
    queue: asyncio.Queue[Reading], device: Device, source: TagSource
) -> AsyncIterator[asyncio.Task[None]]:
    """Let a task put the readings of a device into the queue."""
    work = _watch(queue, device, source) if isinstance(device, OpcUaServer) else None
    task = asyncio.create_task(work or _poll(queue, device, source))
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, SmartOpsError):
            await task


async def _poll(queue: asyncio.Queue[Reading], device: Device, source: TagSource) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        async with device.open() as client:
            for reading in await client.read(source.tags):
                await queue.put(reading)
        due = max(due + source.every.total_seconds(), loop.time())
        await asyncio.sleep(due - loop.time())


async def _watch(queue: asyncio.Queue[Reading], device: OpcUaServer, source: TagSource) -> None:
    async with (
        device.watched() as client,
        aclosing(client.changes(source.tags, source.every)) as found,
    ):
        async for reading in found:
            await queue.put(reading)


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
