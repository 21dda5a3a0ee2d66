"""Takes old records away on a schedule, as the setting says; runs under legal hold are kept."""

from __future__ import annotations

import asyncio
from typing import Any

from prefect import flow, get_run_logger

from smartops import audited
from smartops.audit import prune
from smartops.audit.keys import signing_key
from smartops.audit.store import Store
from smartops.settings import get_settings


@flow(name="retention", persist_result=False, retries=0)
@audited
async def retention(days: int | None = None, dry_run: bool = False) -> dict[str, Any]:
    """Take away what is older than ``days``; without it, than SMARTOPS_RETENTION_DAYS says.

    Args:
        days: How many days are kept. Empty: the setting; where that is empty too, all is kept.
        dry_run: Only say what would go.
    """
    logger = get_run_logger()
    keep = days or get_settings().retention_days
    if keep is None:
        logger.info("SMARTOPS_RETENTION_DAYS is not set: all is kept")
        return {"events": 0, "runs": 0}
    done = await asyncio.to_thread(_prune, keep, dry_run)
    what = "would go" if dry_run else "are gone"
    logger.info("%d events of %d runs %s", done.events, done.runs, what)
    return {"before": done.before.isoformat(), "events": done.events, "runs": done.runs}


def _prune(days: int, dry_run: bool) -> prune.Pruning:
    store = Store(get_settings().store_url)
    try:
        return prune.prune(store, signing_key(get_settings().keys_dir), days, dry_run=dry_run)
    finally:
        store.close()
