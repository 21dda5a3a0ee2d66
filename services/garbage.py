"""Collects garbage beside the event loop of Prefect's server, never in it.

Prefect's server keeps each SQLite connection in a thread of its own. A statement that waits for the
database's write lock holds its connection's mutex meanwhile, for up to a minute. When the garbage
collector runs in the event loop and finds an old cursor of that connection (one that a request left
which was broken off before it had read all rows), it waits for that mutex: the loop stands still,
and with it the transaction that has the write lock. Everybody waits for that minute. In a thread of
its own the collector waits alone.
"""

from __future__ import annotations

import gc
import threading
import time

_PAUSE_S = 1.0
_YOUNG, _OLD = 1, 2
_ALL_EVERY = 30
"""After so many rounds the old objects are looked through as well."""


def collect_beside() -> None:
    """Collect garbage in a thread of its own, from now on and as long as the process lives."""
    gc.disable()
    threading.Thread(target=_collect, name="garbage", daemon=True).start()


def _collect() -> None:
    rounds = 0
    while True:
        time.sleep(_PAUSE_S)
        rounds += 1
        if rounds % _ALL_EVERY:
            gc.collect(_YOUNG)
            continue
        gc.collect(_OLD)
        if rounds == _ALL_EVERY:
            gc.freeze()  # what was imported stays: it need not be looked through again
