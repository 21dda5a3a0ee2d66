"""Steps that let time pass."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from blocks import HttpService, MqttBroker
from blocks.connection import load_connection
from smartops.drivers.mqtt import Message
from smartops.drivers.quarantine import by_hand
from smartops.errors import TransientError
from smartops.jobs.checking import run_checks
from smartops.jobs.kinds.check import Check
from smartops.jobs.kinds.wait import MessageCondition, TagCondition, UrlCondition
from smartops.jobs.step import shorten
from smartops.vocabulary import Effect
from tasks.device import find
from tasks.step import step

_AGAIN_S = 1.0
logger = logging.getLogger(__name__)
Look = Callable[[], Awaitable[tuple[bool, str]]]


@step(effect=Effect.READ, kind="wait")
async def wait(
    duration: timedelta | None = None,
    tag: TagCondition | None = None,
    url: UrlCondition | None = None,
    message: MessageCondition | None = None,
    every: timedelta = timedelta(seconds=1),
) -> dict[str, Any]:
    """Wait for a while, or until a condition holds; one that cannot be looked at does not hold yet.

    Returns ``waited_s``; ``found`` for a condition: what it was in the end; and the ``message``.
    """
    if duration is not None:
        await asyncio.sleep(duration.total_seconds())
        return {"waited_s": duration.total_seconds()}
    began = time.monotonic()
    if message is not None:
        came = await _message(message)
        found = f"{came.topic}: {shorten(came.payload)}"
        waited_s = round(time.monotonic() - began, 3)
        return {"waited_s": waited_s, "found": found, "message": came.as_json()}
    if tag is not None:
        found = await _until(await _tag_look(tag), every)
    elif url is not None:
        found = await _until(await _url_look(url), every)
    else:
        raise ValueError("give one of duration, tag, url and message")
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


async def _message(condition: MessageCondition) -> Message:
    """Return the first message that is as it should be; a lost connection is made again."""
    broker = await load_connection(MqttBroker, condition.broker)
    while True:
        try:
            async with broker.open() as client:
                await client.subscribe(condition.topic)
                while not is_wanted(message := await client.next_message(), condition):
                    pass
                return message
        except TransientError as error:
            logger.warning("%s", error.one_line)
            await asyncio.sleep(_AGAIN_S)


def is_wanted(message: Message, condition: MessageCondition) -> bool:
    """Return whether a message is the one that is waited for."""
    if message.retained and not condition.retained:
        return False
    found = message.payload
    for name in condition.field.split(".") if condition.field else ():
        if not isinstance(found, dict) or name not in found:
            return False
        found = found[name]
    if condition.value is None:
        return True
    try:
        check = Check(left=found, op=condition.op, right=condition.value)
    except ValidationError:
        return False  # an object where a number is wanted
    [result] = run_checks([check])
    return result.holds


async def _tag_look(condition: TagCondition) -> Look:
    device = await find(condition.device)

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
        asking = by_hand.set(True)  # it waits for the very service that may be left alone
        try:
            async with service.open() as client:
                answer = await client.request("GET", condition.path, expect_status=range(100, 600))
        finally:
            by_hand.reset(asking)
        text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
        holds = answer.status == condition.status and condition.contains in text
        return holds, f"{condition.path} answered {answer.status}"

    return look
