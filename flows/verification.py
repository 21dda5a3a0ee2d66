"""Verifies the audit record on a schedule: what is found is on record, in alerts and reports."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from prefect import flow, get_run_logger

from smartops import audited
from smartops.audit import recording, shipping, verification
from smartops.audit.events import NO_RUN
from smartops.audit.store import Store
from smartops.audit.verify import Verdict
from smartops.errors import RecordAltered
from smartops.settings import get_settings


@flow(name="audit-verification", persist_result=False, retries=0)
@audited
async def audit_verification(tables: bool = False) -> dict[str, Any]:
    """Prove that nothing on record was altered, deleted, inserted, moved or cut off.

    Raises RecordAltered where something was, with that on record.

    Args:
        tables: Whether every run is derived from its events again too; takes longer.
    """
    run = recording.current_run()
    verdict = await asyncio.to_thread(_verify, run.id if run else NO_RUN, tables=tables)
    if verdict.first_bad is not None:
        raise RecordAltered(
            f"the audit record was altered: {verdict.first_bad.text}",
            hint="Keep the database as it is, and look with `smartops audit verify --tables`.",
        )
    seen = f"{verdict.events} events of {verdict.runs} runs under {verdict.seals} seals"
    get_run_logger().info("whole: %s, published up to seal %d", seen, verdict.anchored)
    return verdict.as_json()


def _verify(run_id: UUID, *, tables: bool) -> Verdict:
    settings = get_settings()
    store = Store(settings.store_url)
    try:
        shipping.ship_all(store, settings.journal_dir)
        verdict = verification.look(store, tables=tables)
        verification.put_on_record(verdict, tables=tables, run_id=run_id)
        shipping.ship_all(store, settings.journal_dir)
        return verdict
    finally:
        store.close()
