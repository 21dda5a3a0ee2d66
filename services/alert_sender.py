"""Sends what is due: each channel by itself, so that one that hangs holds up no other."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from uuid import uuid4

from blocks.alerts import CHANNELS, AlertChannel
from blocks.connection import load_connection
from smartops import redact
from smartops.alerts.finding import NO_ID
from smartops.alerts.message import Kind, Message, Said, compose
from smartops.alerts.policy import Channel, Policy
from smartops.audit import alert_book, alert_outbox
from smartops.audit.alert_book import Episode
from smartops.audit.alert_outbox import Batch, Limit
from smartops.audit.store import Store
from smartops.errors import PermanentError, ServiceUnavailable, SmartOpsError

logger = logging.getLogger("services.alerter")
_FRESH_S = 60.0
_AT_ONCE = 8
Load = Callable[[str], AlertChannel]


class Connections:
    """The saved connections of channels; what was read once holds while Prefect is away."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, AlertChannel]] = {}
        self._guard = threading.Lock()

    def __call__(self, block: str) -> AlertChannel:
        """Return a connection. Raises UnknownBlock, ServiceUnavailable."""
        with self._guard:
            read_at, channel = self._known.get(block, (-_FRESH_S, None))
            if channel is not None and time.monotonic() - read_at < _FRESH_S:
                return channel
            try:
                loaded = load_channel(block)
            except ServiceUnavailable:
                if channel is None:
                    raise
                return channel
            self._known[block] = (time.monotonic(), loaded)
            return loaded


def load_channel(block: str) -> AlertChannel:
    """Return the saved connection of a channel. Raises UnknownBlock, ServiceUnavailable."""
    kind, _, name = block.partition("/")
    try:
        return asyncio.run(load_connection(CHANNELS[kind], name))
    except SmartOpsError:
        raise
    except Exception as error:
        text = redact.text(f"{type(error).__name__}: {error}")
        raise ServiceUnavailable(f"the connection {block} cannot be read now: {text}") from error


class Sender:
    """Takes what is due and sends it."""

    def __init__(self, store: Store, policy: Policy, load: Load, run_url: str = "") -> None:
        """``run_url`` is the address of a run's page, up to the run's id."""
        self._store, self.policy, self._load, self._run_url = store, policy, load, run_url
        self._me = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="alert")

    def send_due(self, now: datetime | None = None) -> list[Future[bool]]:
        """Begin to send what is due; each future says whether it arrived. Raises StoreUnavailable.

        There are no more than one for each channel at a time.
        """
        limits = {
            name: Limit(channel.throttle.most, channel.throttle.per)
            for name, channel in self.policy.channels.items()
        }
        claimed = alert_outbox.claim(self._store, self._me, limits, now or datetime.now(UTC))
        return [self._pool.submit(self._deliver, batch) for batch in claimed]

    def close(self) -> None:
        """Wait for what is under way."""
        self._pool.shutdown(wait=True)

    def _deliver(self, batch: Batch) -> bool:
        """Send a batch and conclude how it went. It never raises: nobody looks at the future."""
        try:
            return self._delivered(batch)
        except SmartOpsError as error:
            logger.warning(
                "%s: how message %s went cannot be put on record, it is sent again later: %s",
                batch.channel,
                batch.id,
                redact.text(error.one_line),
            )
        except Exception:
            logger.exception("%s: what nobody thought of, in message %s", batch.channel, batch.id)
        return False

    def _delivered(self, batch: Batch) -> bool:
        channel = self.policy.channels.get(batch.channel)
        to = ", ".join(channel.to) if channel else ""
        try:
            remote = self._send(batch, channel)
        except Exception as error:  # noqa: BLE001 - whatever a channel does, it is on record
            return self._failed(batch, channel, error, to)
        alert_outbox.sent(self._store, batch, self._me, remote, to, datetime.now(UTC))
        logger.info("%s: %s, %d alerts", batch.channel, batch.kind, len(batch.alert_ids))
        return True

    def _send(self, batch: Batch, channel: Channel | None) -> str:
        if channel is None:
            raise PermanentError(f"there is no channel {batch.channel} any more")
        connection = self._load(channel.block)
        thread = alert_outbox.thread_of(self._store, batch.alert_ids[0], batch.channel)
        return connection.send(self.message(batch), channel.to, thread)

    def message(self, batch: Batch) -> Message:
        """Return what a batch says, as things stand now. Raises StoreUnavailable."""
        with self._store.reading() as page:
            found = alert_book.episodes(page, batch.alert_ids)
        kind: Kind = batch.kind  # type: ignore[assignment]
        said = [self._said(episode) for episode in found]
        instead = batch.instead_of or ""
        return compose(batch.id, kind, said, instead_of=instead, host=socket.gethostname())

    def _said(self, episode: Episode) -> Said:
        details = episode.details
        has_run = episode.run_id != NO_ID and bool(self._run_url)
        return Said(
            id=episode.id,
            rule=episode.rule,
            severity=episode.severity,
            title=episode.title,
            lines=tuple((word, text) for word, text in details["lines"]),
            count=episode.count,
            raised_at=episode.raised_at,
            ended_at=episode.ended_at,
            run_id=episode.run_id,
            runbook=details["runbook"],
            check=tuple(details["check"]),
            link=f"{self._run_url}{episode.run_id}" if has_run else "",
        )

    def _failed(self, batch: Batch, channel: Channel | None, error: Exception, to: str) -> bool:
        text = error.one_line if isinstance(error, SmartOpsError) else f"{type(error).__name__}"
        now = datetime.now(UTC)
        fallback = channel.fallback if channel is not None else None
        if fallback is not None and channel is not None:
            tried = now - batch.tried_at
            if not isinstance(error, PermanentError) and tried < channel.fallback_after:
                fallback = None
        again = alert_outbox.failed(
            self._store, batch, self._me, redact.text(text), to, now, fallback=fallback
        )
        ending = "trying again" if again else f"now by {fallback}" if fallback else "given up"
        logger.warning("%s: %s; %s", batch.channel, redact.text(text), ending)
        if not isinstance(error, SmartOpsError):
            logger.error("what nobody thought of", exc_info=error)
        return False
