"""Which Prefect the command talks to, and which audit store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services import stack
from smartops.audit.store import Store
from smartops.errors import PrefectUnavailable
from smartops.settings import get_settings

if TYPE_CHECKING:
    from services.stack import Stack


def use_prefect() -> str:
    """Point this process to the user's Prefect, or else to the stack's; return the API's URL.

    It has to be called before Prefect is imported. Raises PrefectUnavailable when neither is there.
    """
    given = os.environ.get("PREFECT_API_URL")
    if given:
        os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
        return given
    found = stack.find()
    if found is None or not found.alive():
        raise PrefectUnavailable(
            "no Prefect server is running for this home folder",
            hint="Start everything with `smartops up --detach`, or set PREFECT_API_URL.",
        )
    use_stack(found)
    return found.api_url


def use_stack(running: Stack) -> None:
    """Point this process to a running stack, away from the user's own Prefect profile."""
    for key in [key for key in os.environ if key.startswith("PREFECT_")]:
        del os.environ[key]
    os.environ.update(stack.prefect_environment(running.settings, running.api_url))
    os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
    get_settings.cache_clear()


@contextmanager
def audit_store() -> Iterator[Store]:
    """Give the audit store, with what the journals of this machine still hold shipped to it."""
    from smartops.audit import schema, shipping  # noqa: PLC0415 - slow to import

    store = Store(get_settings().store_url)
    try:
        schema.migrate(store)
        shipping.ship_all(store, get_settings().journal_dir)
        yield store
    finally:
        store.close()
