"""Steps that call REST services."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid5

from blocks import HttpService
from smartops.drivers.rest import Answer
from smartops.drivers.rest_body import BIGGEST_BODY, BodyFormat, json_body
from smartops.drivers.rest_expect import Expectation
from smartops.drivers.rest_signing import signature_headers
from smartops.errors import BadInput
from smartops.vocabulary import Effect
from tasks.step import current_record, step, task_run_id

_READING = frozenset({"GET", "HEAD"})
_REPEATABLE = frozenset({"PUT", "DELETE"})


def effect_of_request(inputs: Mapping[str, Any]) -> Effect:
    """Return what sending a request twice would do, by its method and its key."""
    if inputs["method"] in _READING:
        return Effect.READ
    repeatable = inputs["method"] in _REPEATABLE or inputs["idempotency_key"]
    return Effect.IDEMPOTENT if repeatable else Effect.UNSAFE


@step(effect=effect_of_request, kind="rest.request")
async def request(
    service: HttpService,
    path: str,
    method: str = "GET",
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    body_format: BodyFormat = "json",
    expect_status: Sequence[int] = (),
    expect_headers: Mapping[str, str] | None = None,
    expect_schema: Mapping[str, Any] | None = None,
    extract: Mapping[str, str] | None = None,
    max_bytes: int = BIGGEST_BODY,
    idempotency_key: bool = False,
) -> dict[str, Any]:
    """Send one request.

    Returns ``status``, ``headers``, ``body`` (parsed where it is JSON), ``elapsed_s``, ``location``
    (a whole URL) and the extracted ``values``. Raises ServiceUnavailable, AuthenticationFailed,
    AddressRefused, UntrustedServer, ExpectationFailed, BadAnswer and UnknownOutcome.
    """
    async with service.open() as client:
        answer = await client.request(
            method,
            path,
            query=query,
            headers=with_key(headers, idempotency_key),
            body=body,
            body_format=body_format,
            expect_status=expect_status,
            max_bytes=max_bytes,
            **as_its_effect_allows(),
        )
    expected = Expectation(expect_headers or {}, expect_schema, extract or {})
    what = f"{service.connection_name}: {method} {path}"
    return {**told(answer), "values": expected.check(what, answer.headers, answer.body)}


@step(effect=Effect.IDEMPOTENT, kind="rest.webhook")
async def send_webhook(
    service: HttpService, event: str, path: str = "/", data: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Send a signed message with an id that stays the same over all attempts.

    Returns the ``id``, and ``status`` and ``body`` of the answer. Raises BadInput for a service
    without a signing secret, and the errors of a request.
    """
    signing = service.connection.signing
    if signing is None:
        raise BadInput(
            f"{service.connection_name}: has no signing secret",
            hint="Fill it in, or use rest.request for messages without a signature.",
        )
    now = datetime.now(UTC)
    message = {"type": event, "timestamp": now.isoformat(), "data": dict(data or {})}
    content = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    message_id = f"msg_{key_of_step()}"
    signed = signature_headers(signing, message_id, int(time.time()), content)
    async with service.open() as client:
        answer = await client.request(
            "POST", path, headers=signed, body=json_body(content), **as_its_effect_allows()
        )
    return {"id": message_id, "status": answer.status, "body": answer.body}


def told(answer: Answer) -> dict[str, Any]:
    """Return an answer as a step gives it."""
    return {
        "status": answer.status,
        "headers": dict(answer.headers),
        "body": answer.body,
        "elapsed_s": answer.elapsed_s,
        "location": answer.location,
    }


def as_its_effect_allows() -> dict[str, Any]:
    """Return how this step sends: twice only where that does no harm, and noting when it begins.

    Until then nothing has happened.
    """
    record = current_record()
    record.touched = False

    def note() -> None:
        record.touched = True

    return {"repeatable": record.effect is not Effect.UNSAFE, "on_sending": note}


def with_key(headers: Mapping[str, str] | None, wanted: bool) -> dict[str, str]:
    """Return headers, with an idempotency key where one is wanted."""
    key = {"Idempotency-Key": key_of_step()} if wanted else {}
    return {**(headers or {}), **key}


def key_of_step() -> str:
    """Return a key that is the same in each attempt of this step and in no other."""
    return str(uuid5(task_run_id(), "idempotency-key"))
