"""Steps that call REST services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid5

from prefect.context import TaskRunContext

from blocks import HttpService
from smartops.vocabulary import Effect
from tasks.step import current_record, step

_READING = frozenset({"GET", "HEAD"})
_REPEATABLE = frozenset({"PUT", "DELETE"})


def _effect_of_request(inputs: Mapping[str, Any]) -> Effect:
    if inputs["method"] in _READING:
        return Effect.READ
    repeatable = inputs["method"] in _REPEATABLE or inputs["idempotency_key"]
    return Effect.IDEMPOTENT if repeatable else Effect.UNSAFE


@step(effect=_effect_of_request, kind="rest.request")
async def request(
    service: HttpService,
    path: str,
    method: str = "GET",
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    expect_status: Sequence[int] = (),
    idempotency_key: bool = False,
) -> dict[str, Any]:
    """Send one request.

    Returns ``status``, ``headers``, ``body`` (parsed where it is JSON) and ``elapsed_s``. Raises
    ServiceUnavailable, AuthenticationFailed, ExpectationFailed, BadAnswer and UnknownOutcome.
    """
    sent = dict(headers or {})
    if idempotency_key:
        sent["Idempotency-Key"] = _key_of_step()
    record = current_record()
    record.touched = False

    def sending() -> None:
        record.touched = True

    async with service.open() as client:
        answer = await client.request(
            method,
            path,
            query=query,
            headers=sent,
            body=body,
            expect_status=expect_status,
            repeatable=record.effect is not Effect.UNSAFE,
            on_sending=sending,
        )
    return {
        "status": answer.status,
        "headers": dict(answer.headers),
        "body": answer.body,
        "elapsed_s": answer.elapsed_s,
    }


def _key_of_step() -> str:
    """Return a key that is the same in each attempt of this step and in no other."""
    context = TaskRunContext.get()
    if context is None:
        raise RuntimeError("a step runs as a Prefect task")
    return str(uuid5(context.task_run.id, "idempotency-key"))
