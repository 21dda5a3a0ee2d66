"""The recorder ships journals to the audit store, seals, and keeps the rollups up to date.

It runs as ``python -m services.recorder``.
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

from smartops.audit import schema, shipping
from smartops.audit.rollup import Roller
from smartops.audit.sealing import Sealer
from smartops.audit.store import Store
from smartops.errors import StoreUnavailable
from smartops.settings import get_settings

logger = logging.getLogger("services.recorder")
_LONGEST_PAUSE_S = 15.0


class Recorder:
    """Ships until it is told to stop; waits longer and longer while the store is away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sealer: Sealer | None = None
        self._roller: Roller | None = None
        self._stop = threading.Event()
        self._ready = False
        self._away_since = 0

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Let :meth:`run` end after one more round."""
        self._stop.set()

    def run(self) -> None:
        """Ship until :meth:`stop`; then once more, so that nothing written before is left."""
        settings = get_settings()
        pause_s = settings.recorder_interval.total_seconds()
        while not self._stop.wait(pause_s):
            pause_s = settings.recorder_interval.total_seconds()
            if not self.ship_once():
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2 ** min(self._away_since, 10))
        self.ship_once(last=True)

    def ship_once(self, *, last: bool = False) -> bool:
        """Ship what is there; seal it and roll it up when it is time, or in the last round.

        Returns whether the store took it. Says so once when it is away.
        """
        try:
            if not self._ready:
                schema.migrate(self._store)
                self._ready = True
            shipped = shipping.ship_all(self._store, get_settings().journal_dir)
            if self._sealer is None:
                self._sealer = Sealer(self._store, get_settings())
            self._sealer.seal_if_due(now=last)
            if self._roller is None:
                self._roller = Roller(self._store)
            self._roller.roll_up_if_due(now=last)
        except StoreUnavailable as error:
            if self._away_since == 0:
                logger.warning("%s; the journal keeps the records until it is back", error.one_line)
            self._away_since += 1
            return False
        except Exception:
            # What nobody thought of must not end the recording: told, and tried again.
            logger.exception("a round of recording failed")
            self._away_since += 1
            return False
        if self._away_since:
            logger.warning("the audit store is back; %d records shipped", shipped)
            self._away_since = 0
        return True


def main() -> None:
    """Run the recorder until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    store = Store(get_settings().store_url)
    recorder = Recorder(store)
    signal.signal(signal.SIGTERM, recorder.stop)
    signal.signal(signal.SIGINT, recorder.stop)
    logger.info("recording to %s", store.shown_url)
    recorder.run()


if __name__ == "__main__":
    main()
