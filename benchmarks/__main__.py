"""Runs the benchmarks that are named, or all: ``python -m benchmarks [NAME...]``."""

from __future__ import annotations

import importlib
import sys
import tempfile

from benchmarks.measuring import print_result, save

NAMES = (
    "engine",
    "locks",
    "journal",
    "ingest",
    "verify",
    "search",
    "reports",
    "modbus",
    "rest",
    "contended",
    "quarantine",
    "leaks",
    "browser",
    "browser_leaks",
    "latency",
    "events",
    "throughput",
    "memory",
    "growth",
)


def main() -> int:
    """Run them one after the other; print a table and write benchmarks/results/NAME.json."""
    chosen = sys.argv[1:] or list(NAMES)
    unknown = [name for name in chosen if name not in NAMES]
    if unknown:
        sys.stderr.write(f"no benchmark {unknown[0]!r}; there are: {', '.join(NAMES)}\n")
        return 2
    for name in chosen:
        module = importlib.import_module(f"benchmarks.{name}")
        with tempfile.TemporaryDirectory(prefix="smartops-bench-") as home:
            result = module.run(home)
        print_result(name, save(name, result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
