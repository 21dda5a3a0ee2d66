"""Checks rows in a process of its own, which costs nothing as long as nothing is checked.

The library takes seconds to load and 220 MB. A process of its own has all of that only while the
check lasts, can be ended at any moment, and cannot talk to anybody while it judges.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from reports.quality import suite as suites
from reports.quality.results import Found
from reports.quality.rows import rows_of
from smartops import errors, redact
from smartops.errors import BadInput, FunctionFailed, StepTimeout

LIMIT = timedelta(hours=1)
"""The longest that a check may take, also when whoever asked for it has gone."""
_LAST_WORDS = 500


async def check(
    suite: str,
    rows: Any = None,
    *,
    look_back: timedelta,
    until: datetime | None = None,
    limit: timedelta = LIMIT,
) -> Found:
    """Return what is found in rows, or on record, by a suite's expectations.

    Queries look from ``look_back`` before ``until`` (now) on. Raises BadInput, StoreUnavailable,
    StepTimeout after ``limit``, FunctionFailed when the process ended otherwise.
    """
    path = suites.find(suite)
    loaded = suites.load(path)
    if loaded.takes_rows is (rows is None):
        raise BadInput(
            f"suite {suite!r} needs rows: give them"
            if rows is None
            else f"suite {suite!r} has queries of its own: give no rows"
        )
    until = until or datetime.now(UTC)
    asked = {
        "suite": loaded.model_dump(mode="json"),
        "revision": suites.revision(path),
        "rows": None if rows is None else rows_of(rows),
        "since": (until - look_back).isoformat(),
        "until": until.isoformat(),
        "limit_s": limit.total_seconds(),
    }
    return Found.from_json(await _asked(suite, asked))


async def _asked(suite: str, asked: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="smartops-quality-") as folder:
        place = Path(folder) / "found.json"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "reports.quality.child",
            str(place),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        talk = asyncio.create_task(process.communicate(json.dumps(asked).encode()))
        try:
            _, said = await asyncio.shield(talk)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(asyncio.wait([talk]))
        if process.returncode == -signal.SIGALRM:
            raise StepTimeout(f"suite {suite!r} was not looked at within {asked['limit_s']:g} s")
        return _answer(suite, place, process.returncode, said)


def _answer(suite: str, place: Path, status: int | None, said: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(place.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        last = " ".join(said.decode("utf-8", "replace").split())[-_LAST_WORDS:]
        raise FunctionFailed(
            f"the check of suite {suite!r} ended its process (status {status}): {redact.text(last)}"
        ) from None
    if "error" in answer:
        raise getattr(errors, answer["class"])(
            f"suite {suite!r}: {answer['error']}", hint=answer["hint"]
        )
    found: dict[str, Any] = answer["found"]
    return found
