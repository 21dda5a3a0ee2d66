"""The recorder's sealing: at intervals, and published where the settings say."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

from smartops.audit.anchors import Publisher, anchors_of
from smartops.audit.keys import signing_key
from smartops.audit.seal import seal, seals_after
from smartops.audit.store import Store
from smartops.errors import RecordRefused
from smartops.settings import Settings

logger = logging.getLogger(__name__)
_PAGE = 1000


class Sealer:
    """Seals what is new on record, and publishes seals."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._key = signing_key(settings.keys_dir)
        self._pause_s = settings.seal_interval.total_seconds()
        self._next = time.monotonic()
        self._publisher = Publisher(anchors_of(settings), settings.home / "anchors" / "state.json")
        self._refused = False

    def seal_if_due(self, *, now: bool = False) -> None:
        """Seal when the interval has passed, or ``now``. Raises StoreUnavailable."""
        if not now and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._pause_s
        try:
            while seal(self._store, self._key) is not None:
                pass
            self._refused = False
        except RecordRefused as error:
            if not self._refused:
                logger.error("the record is not sealed: %s", error.one_line)  # noqa: TRY400
            self._refused = True
        self._publish()

    def _publish(self) -> None:
        now = datetime.now(UTC)
        after = self._publisher.oldest_wanted(now)
        while after is not None:
            with self._store.reading() as connection:
                seals = seals_after(connection, after, limit=_PAGE)
            self._publisher.publish(seals, now)
            after = seals[-1].number if len(seals) == _PAGE else None
