"""Steps that let time pass."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from smartops.vocabulary import Effect
from tasks.step import step


@step(effect=Effect.READ, kind="wait")
async def wait(duration: timedelta) -> dict[str, Any]:
    """Wait for a while. Returns ``waited_s``."""
    await asyncio.sleep(duration.total_seconds())
    return {"waited_s": duration.total_seconds()}
