"""What the benchmarks share: percentiles, the stamp of a result, the stack that they run on."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from services import stack
from services.stack import Stack
from smartops.settings import PROJECT_ROOT, get_settings

RESULTS = PROJECT_ROOT / "benchmarks" / "results"


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the value below which this share (0 to 1) of the samples lies."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Return p50, p95 and p99, in the unit of the samples."""
    return {f"p{share}": percentile(samples, share / 100) for share in (50, 95, 99)}


def save(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """Stamp a result and write it to benchmarks/results/NAME.json. Times are in seconds."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],  # noqa: S607
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    machine = {"cpus": os.cpu_count(), "system": platform.platform(), "load": os.getloadavg()[0]}
    stamped = {
        **result,
        "machine": machine,
        "commit": commit,
        "when": datetime.now(UTC).isoformat(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(stamped, indent=1), encoding="utf-8")
    return stamped


def print_result(name: str, result: dict[str, Any]) -> None:
    """Print a result for people, without its raw samples."""
    print(f"\n{name}")
    for key, value in result.items():
        if key not in {"samples", "machine", "commit", "when"}:
            text = value
            if isinstance(value, float):
                text = f"{value:.6g}"
            if isinstance(value, dict):
                text = "  ".join(f"{k} {v:.4g}" for k, v in value.items())
            print(f"  {key:<28} {text}")


@contextmanager
def running_stack(home: str, *, plant: bool = True) -> Iterator[Stack]:
    """Give a running system with its state in ``home``."""
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    running = stack.up(lambda text: print(f"  ({text})"), plant=plant)
    try:
        yield running
    finally:
        running.stop()


def point_to(running: Stack) -> None:
    """Let this process speak to a running system; to be called outside of an event loop."""
    os.environ.update(running.environment)
    os.environ["PREFECT_LOGGING_LEVEL"] = "WARNING"
    importlib.import_module("prefect")  # its start-up hooks cannot run inside a loop
