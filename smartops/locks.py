"""One thing at a time on one wire: a lock per physical resource, across processes.

The lock is the operating system's own on a file, so it is free again the moment its holder dies,
however it dies.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from filelock import AsyncFileLock, Timeout

from smartops.errors import LockTimeout
from smartops.settings import get_settings

_POLL_S = 0.02


def lock_path(resource: str) -> Path:
    """Return the lock file of a resource, such as ``modbus://10.0.0.5:502``."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", resource)[:80]
    digest = hashlib.sha256(resource.encode()).hexdigest()[:12]
    return get_settings().locks_dir / f"{readable}-{digest}.lock"


@asynccontextmanager
async def exclusive(resource: str, timeout: timedelta | None = None) -> AsyncIterator[None]:
    """Hold a resource alone, on this machine.

    Raises LockTimeout when it is not free within ``timeout`` (default: the setting).
    """
    limit_s = (get_settings().lock_timeout if timeout is None else timeout).total_seconds()
    path = lock_path(resource)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = AsyncFileLock(
        path, timeout=limit_s, poll_interval=_POLL_S, run_in_executor=False, thread_local=False
    )
    try:
        await lock.acquire()
    except Timeout:
        raise LockTimeout(
            f"{resource} was held by another job for more than {limit_s:g} s"
        ) from None
    try:
        yield
    finally:
        await lock.release()
