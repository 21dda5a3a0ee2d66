"""Asks the audit store what a report's query says, where that may be asked at all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from reports import own_query
from reports.own import readable
from reports.period import Period
from smartops.audit.store import Store

PARAMETERS = ("since", "until", "since_key", "until_key")
"""What a query may name with a colon before it."""


def problem_of(query: str) -> str:
    """Return why a query may not be asked, "" where it may."""
    if found := readable.problem(query):
        return found
    for name in sa.text(query).compile().params:
        if name not in PARAMETERS:
            known = ", ".join(f":{known}" for known in PARAMETERS)
            return f"the query names :{name}; it may name {known}"
    return ""


def rows(
    store: Store, query: str, period: Period, *, most: int, limit: timedelta
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and the rows of a query. Raises BadInput, StoreUnavailable."""
    times = own_query.Period(period.start, period.end)
    return own_query.rows(store, query, times, most=most, limit=limit, tables=readable.READABLE)
