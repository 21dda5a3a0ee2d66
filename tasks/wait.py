"""Steps that let time pass."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from blocks import HttpService, ModbusDevice
from blocks.connection import load_connection
from smartops.errors import TransientError
from smartops.jobs.checking import run_checks
from smartops.jobs.kinds.check import Check
from smartops.jobs.kinds.wait import TagCondition, UrlCondition
from smartops.vocabulary import Effect
from tasks.step import step

Look = Callable[[], Awaitable[tuple[bool, str]]]


@step(effect=Effect.READ, kind="wait")
async def wait(
    duration: timedelta | None = None,
    tag: TagCondition | None = None,
    url: UrlCondition | None = None,
    every: timedelta = timedelta(seconds=1),
) -> dict[str, Any]:
    """Wait for a while, or until a condition holds; one that cannot be looked at does not hold yet.

    Returns ``waited_s``, and ``found`` for a condition: what it was in the end.
    """
    if duration is not None:
        await asyncio.sleep(duration.total_seconds())
        return {"waited_s": duration.total_seconds()}
    began = time.monotonic()
    if tag is not None:
        found = await _until(await _tag_look(tag), every)
    elif url is not None:
        found = await _until(await _url_look(url), every)
    else:
        raise ValueError("give one of duration, tag and url")
    return {"waited_s": round(time.monotonic() - began, 3), "found": found}


async def _until(look: Look, every: timedelta) -> str:
    while True:
        try:
            holds, found = await look()
        except TransientError:
            holds, found = False, ""
        if holds:
            return found
        await asyncio.sleep(every.total_seconds())


async def _tag_look(condition: TagCondition) -> Look:
    device = await load_connection(ModbusDevice, condition.device)

    async def look() -> tuple[bool, str]:
        async with device.open() as client:
            [reading] = await client.read([condition.tag])
        if reading.quality == "bad":
            return False, reading.reason
        check = Check(left=reading.value, op=condition.op, right=condition.value)
        [result] = run_checks([check])
        return result.holds, f"{condition.tag} is {reading.value} {reading.unit}".rstrip()

    return look


async def _url_look(condition: UrlCondition) -> Look:
    service = await load_connection(HttpService, condition.service)

    async def look() -> tuple[bool, str]:
        async with service.open() as client:
            answer = await client.request("GET", condition.path, expect_status=range(100, 600))
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        holds = answer.status == condition.status and condition.contains in text
        return holds, f"{condition.path} answered {answer.status}"

    return look
