"""The process of a check: rows in, what was found out. It ends by itself when its time is over.

``python -m reports.quality.child RESULT_FILE``, with what to do on stdin. It gets the rows first,
then shuts itself off from every network, and only then loads the library that judges them: what
that would want to tell somebody, it cannot.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from reports.quality.judging import judge
from reports.quality.rows import MOST_ROWS
from reports.quality.suite import Suite
from smartops.errors import SmartOpsError

_CALLS_OUT = frozenset({"socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"})


def shut_off() -> None:
    """Refuse every connection from now on. It cannot be taken back in this process."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CALLS_OUT:
            raise PermissionError(f"a check of data talks to nobody ({event} {arguments[1:]})")

    sys.addaudithook(refuse)


def check(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is found, as JSON. Raises BadInput and StoreUnavailable."""
    suite = Suite.model_validate(asked["suite"])
    rows: dict[str, tuple[list[str], list[dict[str, Any]]]] = {}
    for dataset in suite.datasets:
        if dataset.query:
            rows[dataset.name] = _queried(dataset.query, asked)
        else:
            given = asked["rows"]
            rows[dataset.name] = (list(dict.fromkeys(n for row in given for n in row)), given)
    shut_off()
    return judge(suite, asked["revision"], rows).as_json()


def _queried(query: str, asked: Mapping[str, Any]) -> tuple[list[str], list[dict[str, Any]]]:
    from reports import own_query  # noqa: PLC0415 - rows that are given need no database
    from smartops.audit.store import Store  # noqa: PLC0415
    from smartops.settings import get_settings  # noqa: PLC0415

    since, until = (datetime.fromisoformat(asked[name]) for name in ("since", "until"))
    limit = timedelta(seconds=asked["limit_s"])
    store = Store(get_settings().store_url)
    try:
        period = own_query.Period(since, until)
        return own_query.rows(store, query, period, most=MOST_ROWS, limit=limit)
    finally:
        store.close()


def main() -> None:
    """Do the check that stands on stdin."""
    asked = json.load(sys.stdin)
    signal.setitimer(signal.ITIMER_REAL, asked["limit_s"])  # ends it also within foreign code
    answer: dict[str, Any]
    try:
        answer = {"found": check(asked)}
    except SmartOpsError as error:
        answer = {"error": str(error), "hint": error.hint, "class": type(error).__name__}
    Path(sys.argv[1]).write_text(json.dumps(answer, default=_as_text), "utf-8")


def _as_text(value: Any) -> Any:
    """Return what JSON has no word for: times as text, numbers of other libraries as numbers."""
    if isinstance(value, datetime):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else str(value)


if __name__ == "__main__":
    main()
