"""Takes old records away on a schedule, as the setting says; runs under legal hold are kept."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow, get_run_logger

from smartops import audited, evidence_store
from smartops.audit import prune
from smartops.audit.keys import signing_key
from smartops.audit.store import Store
from smartops.settings import get_settings


@flow(name="retention", persist_result=False, retries=0)
@audited
async def retention(days: int | None = None, dry_run: bool = False) -> dict[str, Any]:
    """Take away what is older than ``days``; without it, than SMARTOPS_RETENTION_DAYS says.

    Evidence goes as SMARTOPS_EVIDENCE_DAYS says, where that is set.

    Args:
        days: How many days are kept. Empty: the setting; where that is empty too, all is kept.
        dry_run: Only say what would go.
    """
    logger = get_run_logger()
    keep = days or get_settings().retention_days
    keep_evidence = days or get_settings().evidence_days or keep
    files = 0
    if keep_evidence is not None:
        files = (await asyncio.to_thread(clear_evidence, keep_evidence, dry_run)).files
        logger.info("%d files of evidence %s", files, "would go" if dry_run else "are gone")
    if keep is None:
        logger.info("SMARTOPS_RETENTION_DAYS is not set: the record is kept")
        return {"events": 0, "runs": 0, "files": files}
    done = await asyncio.to_thread(_prune, keep, dry_run)
    what = "would go" if dry_run else "are gone"
    logger.info("%d events of %d runs %s", done.events, done.runs, what)
    return {
        "before": done.before.isoformat(),
        "events": done.events,
        "runs": done.runs,
        "files": files,
    }


def _prune(days: int, dry_run: bool) -> prune.Pruning:
    store = Store(get_settings().store_url)
    try:
        return prune.prune(store, signing_key(get_settings().keys_dir), days, dry_run=dry_run)
    finally:
        store.close()


def clear_evidence(days: int, dry_run: bool) -> evidence_store.Cleared:
    """Take the evidence of old steps away, but of the runs under legal hold."""
    store = Store(get_settings().store_url)
    try:
        with store.reading() as connection:
            held = prune.held_runs(connection)
    finally:
        store.close()
    before = datetime.now(UTC) - timedelta(days=days)
    return evidence_store.clear(before, keep=held, dry_run=dry_run)
