"""Checks what is on record on a schedule: the suites that ship, and one's own."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from prefect import flow, get_run_logger

from reports.quality import suite as suite_files
from smartops import audited
from smartops.errors import ExpectationFailed
from tasks.quality import check_quality


@flow(name="data-quality", persist_result=False, retries=0)
@audited
async def data_quality(suites: list[str] | None = None, days: float = 2) -> dict[str, Any]:
    """Look at every suite, also after one has failed. Raises ExpectationFailed at the end.

    Args:
        suites: Names of files in deployments/quality. Empty: all whose rows come from queries.
        days: How far back the queries look.
    """
    logger = get_run_logger()
    statuses: dict[str, str] = {}
    failures: list[str] = []
    wanted: list[str] = await asyncio.to_thread(_wanted, suites)
    for suite in wanted:
        try:
            found = await check_quality(suite, look_back=timedelta(days=days))
            statuses[suite] = found["status"]
        except ExpectationFailed as error:
            statuses[suite] = "failed"
            failures.append(error.one_line)
        logger.info("%s: %s", suite, statuses[suite])
    if failures:
        raise ExpectationFailed("; ".join(failures))
    return statuses


def _wanted(suites: list[str] | None) -> list[str]:
    """Return the suites that are named, or else those that need nobody to give them rows."""
    if suites:
        return suites
    names = suite_files.suite_names()
    return [name for name in names if not suite_files.load(suite_files.find(name)).takes_rows]
