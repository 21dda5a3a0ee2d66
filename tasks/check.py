"""Steps that check values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from smartops.errors import ExpectationFailed
from smartops.jobs.checking import run_checks
from smartops.jobs.kinds.check import Check
from smartops.vocabulary import Effect
from tasks.step import step


@step(effect=Effect.READ, kind="assert")
async def check(checks: Sequence[Check]) -> dict[str, Any]:
    """Look at every check. Returns ``held``; raises ExpectationFailed naming all that do not."""
    results = run_checks(checks)
    failed = [result.sentence for result in results if not result.holds]
    if failed:
        raise ExpectationFailed("; ".join(failed))
    return {"held": [result.sentence for result in results]}
