"""The alerter judges what is on record and sends what deserves it: ``python -m services.alerter``.

Several may run, on one machine or many: they take turns in judging, and what one sends no other
does.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

from services.alert_judge import Judge
from services.alert_sender import Connections, Sender
from services.changed_files import state_of
from smartops.alerts.policy import load_policy
from smartops.audit import alert_book, schema
from smartops.audit.store import Store
from smartops.errors import BadInput, StoreUnavailable
from smartops.settings import get_settings

logger = logging.getLogger("services.alerter")
_LONGEST_PAUSE_S = 15.0


def run_url() -> str:
    """Return the address of a run's page up to its id; "" where Prefect's is not known."""
    api = PREFECT_API_URL.value() or ""
    base = PREFECT_UI_URL.value() or api.removesuffix("/").removesuffix("/api")
    return f"{base}/runs/flow-run/" if base else ""


class Alerter:
    """Judges and sends until it is told to stop; reads its files again when they change."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store, self._path = store, path
        policy = load_policy(path)
        self._judge = Judge(store, policy)
        self._sender = Sender(store, policy, Connections(), run_url())
        self._stop = threading.Event()
        self._seen = state_of(path)
        self._ready = False
        self._away = 0

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Let :meth:`run` end after the round that is under way."""
        self._stop.set()

    def run(self) -> None:
        """Judge and send until :meth:`stop`; what is being sent then is sent."""
        pause_s = get_settings().alert_interval.total_seconds()
        while not self._stop.is_set():
            self.look_once()
            self._stop.wait(min(_LONGEST_PAUSE_S, pause_s * 2 ** min(self._away, 10)))
        self._sender.close()

    def look_once(self) -> None:
        """Judge what is new, and begin to send what is due. Says so once when the store is away."""
        try:
            self._read_again()
            if not self._ready:
                schema.migrate(self._store)
                alert_book.switch_on(self._store, datetime.now(UTC))
                self._ready = True
            self._judge.judge(datetime.now(UTC))
            self._sender.send_due()
        except StoreUnavailable as error:
            self._log(f"{error.one_line}; trying again")
        except Exception:
            # What nobody thought of must not end the alerts: told, and tried again.
            if not self._away:
                logger.exception("a round of judging failed; trying again")
            self._away += 1
        else:
            if self._away:
                logger.warning("all is back")
            self._away = 0

    def _log(self, text: str) -> None:
        if not self._away:
            logger.warning(text)
        self._away += 1

    def _read_again(self) -> None:
        """Take over what was changed in the files; keep what holds when they cannot be read."""
        state = state_of(self._path)
        if state == self._seen:
            return
        self._seen = state
        try:
            policy = load_policy(self._path)
        except BadInput as error:
            logger.error("%s; what it said before holds", error.one_line)  # noqa: TRY400
            return
        self._judge = Judge(self._store, policy)
        self._sender.policy = policy
        logger.info("%s was read again: %d rules", self._path, len(policy.rules))


def main() -> None:
    """Run the alerter until SIGTERM or SIGINT."""
    text = "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=text, force=True)  # Prefect has set its own
    for name in ("httpx", "apprise"):
        logging.getLogger(name).setLevel(logging.WARNING)
    settings = get_settings()
    path = Path(sys.argv[1]) if sys.argv[1:] else settings.alerts
    if path is None:
        sys.exit("services.alerter: name the file or folder with the rules, or set SMARTOPS_ALERTS")
    store = Store(settings.store_url)
    alerter = Alerter(store, path)
    signal.signal(signal.SIGTERM, alerter.stop)
    signal.signal(signal.SIGINT, alerter.stop)
    logger.info("judging by %s what is in %s", path, store.shown_url)
    alerter.run()
    store.close()


if __name__ == "__main__":
    main()
