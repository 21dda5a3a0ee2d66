"""Flows of a user's own, for the tests of the worker: each leaves what it saw in a file."""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from prefect import flow, get_run_logger, task


@flow(name="about-me", persist_result=False)
def about_me(into: str) -> None:
    """Write down what kind of process this is."""
    get_run_logger().info("hello from %s", os.getpid())
    seen: dict[str, Any] = {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "name": psutil.Process().name(),
        "parent": os.getppid(),
        "folder": str(Path.cwd()),
        "path": sys.path[0],
        "colour": os.environ.get("COLOUR"),
        "level": logging.getLogger("prefect").level,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "loaded": sorted(
            {"pandas", "great_expectations", "playwright", "matplotlib"} & {*sys.modules}
        ),
        "threads_of_zygote": sum(1 for _ in Path("/proc/self/task").iterdir()),
    }
    draft = Path(into).with_suffix(".new")
    draft.write_text(json.dumps(seen), encoding="utf-8")
    draft.rename(into)


@task
async def count(number: int) -> int:
    """Count one further."""
    return number + 1


@flow(name="counted", flow_run_name="number {number}", version="3", retries=1)
async def counted(number: int) -> int:
    """Count in a task; a run is named by where it begins."""
    return await count(number)


@flow(name="wants-memory", persist_result=False)
def wants_memory(mib: int) -> int:
    """Take some memory."""
    return len(bytearray(mib * 1024 * 1024))


@flow(name="wants-cpu", persist_result=False)
def wants_cpu(seconds: float) -> None:
    """Take some CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@flow(name="waits-for-a-file", persist_result=False)
def waits_for(path: str) -> None:
    """Wait until a file is there."""
    draft = Path(path).with_suffix(".new")
    draft.write_text(str(os.getpid()), encoding="ascii")
    draft.rename(draft.with_suffix(".begun"))
    while not Path(path).exists():
        time.sleep(0.05)
