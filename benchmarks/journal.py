"""What the journal adds to a step: the intent before, the outcome after, each on the disk."""

from __future__ import annotations

import os
import time
from typing import Any

from uuid6 import uuid7

from benchmarks.measuring import percentile
from smartops.audit.recording import RunInfo, StepRecord, start_run
from smartops.settings import get_settings
from smartops.vocabulary import Effect

STEPS = 2000


def run(home: str) -> dict[str, Any]:
    """Journal 2,000 steps; return the added seconds for each at p50 and p99."""
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    info = RunInfo(id=uuid7(), job="bench", flow="bench")
    start_run(info)
    samples = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        record = StepRecord(
            info, step="s", kind="wait", effect=Effect.READ, attempt=1, inputs={"duration": 1}
        )
        record.completed({"waited_s": 1})
        samples.append(time.perf_counter() - begun)
    return {
        "added_p50": percentile(samples, 0.5),
        "added_p99": percentile(samples, 0.99),
        "n": STEPS,
        "samples": samples,
    }
