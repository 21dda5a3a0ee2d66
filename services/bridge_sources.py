"""How the device bridge listens: to a topic of a broker, to tags of a device."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

from prefect.client.orchestration import PrefectClient
from uuid6 import uuid7

from blocks import MqttBroker, OpcUaServer
from blocks.connection import load_connection
from services.bridge_changes import Bucket, Change, Changes, as_event
from services.bridge_dispatch import deal_with
from services.bridge_ledger import Ledger, Taken
from services.prefect_api import prefect_errors
from smartops.audit.liveness import home_id
from smartops.drivers.mqtt import Message, MqttDriver
from smartops.drivers.readings import Reading
from smartops.errors import PrefectUnavailable, TemplateError, TransientError
from smartops.jobs import templating
from smartops.jobs.event_sources import ROOT, MessageSource, TagSource, counts
from smartops.settings import get_settings
from tasks.device import Device, find

logger = logging.getLogger("services.bridge")
_LONGEST_PAUSE_S = 30.0
_LOOK_S = 1.0
_CONFIRM_AFTER = 50
"""So many acknowledgements are made sure of at once, or those before a moment without messages."""
STARTING, LISTENING, AWAY = "starting", "listening", "away"
WAITING, STOPPED = "waiting for Prefect", "stopped"
S = TypeVar("S", MessageSource, TagSource)


class _Listener(Generic[S]):
    """What both sorts of sources share."""

    def __init__(self, source: S, ledger: Ledger, client: PrefectClient) -> None:
        self.source: S = source
        self.name = source.name
        self.was_heard = False
        """Whether anything has come since it began to listen last."""
        self._ledger = ledger
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._bucket = Bucket(*source.rate)
        self._state = ""

    def say(self, state: str, problem: str = "") -> None:
        """Note how it is doing, and log it where that is news."""
        self._state = state
        if self._ledger.say(self.name, state, problem):
            level = logging.INFO if state in {STARTING, LISTENING} else logging.WARNING
            logger.log(level, "source %s: %s %s", self.name, state, problem)

    def heard(self) -> None:
        """Note that the other side is there."""
        self.was_heard = True
        if self._state in {STARTING, AWAY}:
            self.say(LISTENING)

    async def finish(self) -> None:
        """Deal with what was taken before, and not dealt with."""
        for taken in self._ledger.unfinished(self.name):
            await self.deal(taken)

    async def deal(self, taken: Taken) -> None:
        """Deal with an event, however long Prefect is away."""
        pause_s = 0.5
        while True:
            try:
                await deal_with(self._client, self._ledger, self.source, taken)
            except PrefectUnavailable as error:
                self.say(WAITING, error.one_line)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                if self._state == WAITING:
                    self.say(LISTENING)
                return

    def refuse(self, taken: Taken, problem: TemplateError) -> None:
        """Keep why an event could not be used."""
        self._ledger.done(taken, None, str(problem))
        logger.warning("source %s: %s", self.name, problem)

    async def turn(self) -> None:
        """Wait until the rate lets one more event count."""
        await asyncio.sleep(self._bucket.wait_s(self._loop.time()))
        self._bucket.take(self._loop.time())


class MessageListener(_Listener[MessageSource]):
    """Takes the messages of a topic, in their order."""

    async def listen(self) -> None:
        """Listen until the connection is lost. Raises what connecting raises."""
        source = self.source
        with prefect_errors():
            broker = await load_connection(MqttBroker, source.broker)
        await self.finish()
        # Another topic is another session: the broker would go on with the old topic as well.
        topic = hashlib.sha256(source.topic.encode()).hexdigest()[:8]
        session = f"smartops-{home_id(get_settings().home).hex[:12]}-{source.name}-{topic}"
        async with broker.open(session=session) as client:
            await client.subscribe(source.topic, 1)
            self.heard()
            unsure: list[str] = []
            while True:
                if unsure and (len(unsure) >= _CONFIRM_AFTER or not client.has_message):
                    if await client.is_heard():
                        self._ledger.confirmed(self.name, unsure)
                    unsure = []
                message = await client.next_message()
                unsure.append(await self._message(message, client))
                self.heard()

    async def _message(self, message: Message, client: MqttDriver) -> str:
        """Deal with a message, and tell the broker only then that it need not come again.

        Returns the key that it is known by.
        """
        ledger, name = self._ledger, self.name
        ledger.count(name, {"received": 1})
        event = {"source": name, **message.as_json()}
        content = _digest(message.topic, message.payload, message.mid)
        again = ledger.sent_before(name, content) if message.again else None
        key = again or str(uuid7())
        if message.retained and not self.source.retained:
            ledger.count(name, {"unwanted": 1})
        else:
            key = await self._counted(message, event, key, content)
        ledger.acknowledging(name, key)
        client.acknowledge(message)
        return key

    async def _counted(
        self, message: Message, event: dict[str, Any], key: str, content: str
    ) -> str:
        """Deal with a message where it counts; return the key that it is known by."""
        ledger, name = self._ledger, self.name
        try:
            if not counts(self.source, event):
                ledger.count(name, {"unwanted": 1})
                return key
            if self.source.id:
                key = f"id:{_id(self.source.id, event)}"
            elif message.retained:  # it comes with each connection; the same is no other event
                key = f"retained:{_digest(message.topic, message.payload)}"
        except TemplateError as error:
            self.refuse(ledger.take(name, key, event, content), error)
            return key
        taken = ledger.take(name, key, event, content)
        if taken.done:
            ledger.count(name, {"repeated": 1})
        else:
            await self.turn()
            await self.deal(taken)
        return key


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _id(template: str, event: dict[str, Any]) -> str:
    found = templating.render(template, {ROOT: event})
    if found is None or found == "":
        raise TemplateError(f"{template!r} gives nothing, which would be the same for all")
    return str(found)


class TagListener(_Listener[TagSource]):
    """Takes the changes of tags of a device."""

    def __init__(self, source: TagSource, ledger: Ledger, client: PrefectClient) -> None:
        super().__init__(source, ledger, client)
        self._changes: Changes | None = None
        self._news = asyncio.Event()
        self._counted: Counter[str] = Counter()
        self._place = f"{source.name} at {source.device}"

    async def listen(self) -> None:
        """Follow the tags until the device is away. Raises what reaching it raises."""
        with prefect_errors():
            device = await find(self.source.device)
        changes = self._changes = self._changes or self._follow(device)
        await self.finish()
        async with self._fed(changes, device) as feeding:
            while not feeding.done():
                await self._wait(changes)
                changes.look(self._loop.time())
                for change in changes.due():
                    if self._bucket.wait_s(self._loop.time()) > 0:
                        break
                    await self._take(changes, change)
                self._flush()
            await feeding  # which raises why it ended

    def _follow(self, device: Device) -> Changes:
        changes = Changes(
            {tag.name: tag.deadband for tag in device.tags},
            self.source.debounce.total_seconds(),
            bad_counts=self.source.bad,
            is_wanted=self._is_wanted,
        )
        for plain in self._ledger.last_values(self._place).values():
            changes.known(Reading.from_json(plain))
        return changes

    def _is_wanted(self, change: Change) -> bool:
        try:
            wanted = counts(self.source, as_event(self.name, self.source.device, change))
        except TemplateError:
            return True  # it is dealt with when it is taken
        if not wanted:
            self._counted["unwanted"] += 1
        return wanted

    async def _wait(self, changes: Changes) -> None:
        """Wait for a reading, for a change to have stood, or for the rate; not for long."""
        now, wait_s = self._loop.time(), _LOOK_S
        due_in_s = changes.next_in_s(now)
        if due_in_s is not None:
            wait_s = min(wait_s, due_in_s)
        if changes.due():
            wait_s = min(wait_s, self._bucket.wait_s(now))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._news.wait()
        self._news.clear()

    def _saw(self, changes: Changes, reading: Reading) -> None:
        self.heard()
        self._counted["received"] += 1
        first = changes.see(reading, self._loop.time())
        if first is not None:
            self._ledger.set_last_value(self._place, first.tag, first.as_json())
        self._news.set()

    def _flush(self) -> None:
        self._ledger.count(self.name, self._counted)
        self._counted.clear()

    async def _take(self, changes: Changes, change: Change) -> None:
        changes.take(change)
        self._counted["missed"] += change.missed
        event = as_event(self.name, self.source.device, change)
        taken = self._ledger.take_change(
            self.name, str(uuid7()), event, self._place, change.now.as_json()
        )
        try:
            counts(self.source, event)
        except TemplateError as error:
            self.refuse(taken, error)
            return
        self._bucket.take(self._loop.time())
        await self.deal(taken)

    @asynccontextmanager
    async def _fed(self, changes: Changes, device: Device) -> AsyncIterator[asyncio.Task[None]]:
        """Let a task see the readings of a device as they come."""
        task = asyncio.create_task(
            self._watch(changes, device)
            if isinstance(device, OpcUaServer)
            else self._poll(changes, device)
        )
        task.add_done_callback(lambda _: self._news.set())
        try:
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task

    async def _poll(self, changes: Changes, device: Device) -> None:
        due = self._loop.time()
        while True:
            try:
                async with device.open() as client:
                    found = await client.read(self.source.tags)
            except TransientError as error:  # a lost frame: what stands goes on standing
                self.say(AWAY, error.one_line)
            else:
                for reading in found:
                    self._saw(changes, reading)
            due = max(due + self.source.every.total_seconds(), self._loop.time())
            await asyncio.sleep(due - self._loop.time())

    async def _watch(self, changes: Changes, device: OpcUaServer) -> None:
        async with (
            device.watched() as client,
            aclosing(client.changes(self.source.tags, self.source.every)) as found,
        ):
            async for reading in found:
                self._saw(changes, reading)
