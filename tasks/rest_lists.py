"""Steps that read lists and wait for answers of REST services."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from blocks import HttpService
from smartops.drivers.rest import Answer
from smartops.drivers.rest_body import BIGGEST_BODY
from smartops.drivers.rest_expect import Expectation
from smartops.drivers.rest_pages import Paging, Place, read_pages
from smartops.drivers.rest_polling import Polling
from smartops.drivers.rest_polling import poll as poll_until
from smartops.jobs.kinds.rest_lists import Style
from smartops.vocabulary import Effect
from tasks.rest import told
from tasks.step import step


@step(effect=Effect.READ, kind="rest.paginate")
async def paginate(
    service: HttpService,
    path: str,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    style: Style = "link",
    items: str = "",
    next: str = "",  # noqa: A002 - the option is called so
    param: str = "",
    first: int | None = None,
    page_size: int | None = None,
    size_param: str = "limit",
    max_pages: int = 100,
    max_items: int = 10_000,
    on_limit: Literal["fail", "stop"] = "fail",
    max_bytes: int = BIGGEST_BODY,
) -> dict[str, Any]:
    """Read all pages of a list.

    Returns ``items``, their ``count``, how many ``pages`` there were, and whether they are
    ``complete``. Raises ExpectationFailed, BadAnswer and the errors of a request.
    """
    paging = Paging(
        style,
        items,
        next,
        param,
        first,
        page_size,
        size_param,
        max_pages,
        max_items,
        on_limit == "stop",
        max_bytes,
    )
    async with service.open() as client:
        read = await read_pages(client, Place(path, query or {}), headers or {}, paging)
    return {
        "items": read.items,
        "count": len(read.items),
        "pages": read.pages,
        "complete": read.complete,
    }


@step(effect=Effect.READ, kind="rest.poll")
async def poll(
    service: HttpService,
    path: str,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    until: str = "",
    fails_when: str = "",
    every: timedelta = timedelta(seconds=2),
    within: timedelta = timedelta(seconds=50),
    expect_schema: Mapping[str, Any] | None = None,
    extract: Mapping[str, str] | None = None,
    max_bytes: int = BIGGEST_BODY,
) -> dict[str, Any]:
    """Ask until an answer is as it should be.

    Returns what a request returns, and ``looks`` and ``waited_s``. Raises ExpectationFailed and the
    errors of a request.
    """
    what = f"{service.connection_name}: GET {path}"
    async with service.open() as client:

        async def look() -> Answer:
            return await client.request(
                "GET", path, query=query, headers=headers, max_bytes=max_bytes
            )

        polled = await poll_until(what, look, Polling(until, fails_when, every, within))
    answer = polled.answer
    expected = Expectation({}, expect_schema, extract or {})
    return {
        **told(answer),
        "values": expected.check(what, answer.headers, answer.body),
        "looks": polled.looks,
        "waited_s": polled.waited_s,
    }
