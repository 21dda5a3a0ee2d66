"""At the end of a run: bring its own records to the store, if that is quickly done."""

from __future__ import annotations

import asyncio
import logging
import threading

from smartops.audit.journal import get_journal
from smartops.errors import SmartOpsError
from smartops.settings import get_settings

logger = logging.getLogger(__name__)


def ship_own_records() -> None:
    """Ship this process's journal, for as long as the setting allows.

    Never raises: what is not in the store by then stays in the journal for the recorder.
    """
    limit_s = get_settings().ship_at_run_end.total_seconds()
    if limit_s <= 0:
        return
    worker = threading.Thread(target=_ship, name="smartops-ship", daemon=True)
    worker.start()
    worker.join(limit_s)


async def ship_own_records_async() -> None:
    """Do the same without holding up the event loop."""
    await asyncio.shield(asyncio.to_thread(ship_own_records))


def _ship() -> None:
    # SQLAlchemy and Alembic take most of a second to import, and a run that only writes its
    # journal needs neither.
    from smartops.audit import schema, shipping  # noqa: PLC0415
    from smartops.audit.store import Store  # noqa: PLC0415

    try:
        store = Store(get_settings().store_url)
        try:
            if store.url.get_backend_name() == "sqlite":
                schema.migrate(
                    store
                )  # a server's tables are the recorder's and the command's to make
            journal = get_journal()
            shipping.ship_process(store, journal.path.parent, journal.process)
        finally:
            store.close()
    except SmartOpsError as error:
        logger.warning("the run's records stay in the journal for now: %s", error.one_line)
