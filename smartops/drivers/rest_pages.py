"""Lists that REST services give in pages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import httpx

from smartops import errors
from smartops.drivers.rest import Answer, RestDriver
from smartops.drivers.rest_body import BIGGEST_BODY
from smartops.drivers.rest_expect import find

_TRIES = 3
_PAUSE_S = 1.0


@dataclass(frozen=True)
class Paging:
    """How a service pages. JMESPaths lead into a page's body; empty ones have their defaults."""

    style: Literal["link", "next", "cursor", "page", "offset"] = "link"
    items: str = ""
    next: str = ""
    param: str = ""
    first: int | None = None
    page_size: int | None = None
    size_param: str = "limit"
    max_pages: int = 100
    max_items: int = 10_000
    stop_at_limit: bool = False
    """Whether more than that is left out; otherwise it is an error."""
    max_bytes: int = BIGGEST_BODY


@dataclass(frozen=True)
class Place:
    """Where a page is."""

    path: str | httpx.URL
    query: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Pages:
    """What has been read so far."""

    items: list[Any]
    pages: int = 0
    complete: bool = False


async def read_pages(
    client: RestDriver, start: Place, headers: Mapping[str, str], paging: Paging
) -> Pages:
    """Return all items. A page that fails for a while is asked for three times.

    Raises ExpectationFailed for more than the limits allow, BadAnswer for pages that go in a
    circle, and the errors of a request.
    """
    read = Pages([])
    place: Place | None = _first(start, paging)
    before: list[Any] | None = None
    seen: set[str] = set()
    while place is not None:
        if (key := _key(place)) in seen:
            raise errors.BadAnswer(
                f"{start.path}: its pages go in a circle, at {place.query or key}"
            )
        seen.add(key)
        if read.pages >= paging.max_pages:
            return _at_limit(read, start, f"{paging.max_pages:,} pages", paging)
        answer = await _page(client, place, headers, paging, is_first=not read.pages)
        if answer is None:
            break
        items = _items(start, answer, paging)
        if items and items == before and paging.style in {"page", "offset"}:
            raise errors.BadAnswer(f"{start.path}: gives the same page again and again")
        before = items
        read.pages += 1
        read.items += items
        if len(read.items) > paging.max_items:
            del read.items[paging.max_items :]
            return _at_limit(read, start, f"{paging.max_items:,} items", paging)
        place = _next(start, place, answer, len(items), paging)
    read.complete = True
    return read


def _at_limit(read: Pages, start: Place, limit: str, paging: Paging) -> Pages:
    if not paging.stop_at_limit:
        raise errors.ExpectationFailed(
            f"{start.path}: has more than {limit}",
            hint="Raise max_pages or max_items, or set on_limit: stop.",
        )
    return read


async def _page(
    client: RestDriver, place: Place, headers: Mapping[str, str], paging: Paging, *, is_first: bool
) -> Answer | None:
    """Return a page; None where a service says by 404 that there is none after the last."""
    may_be_missing = paging.style == "page" and not is_first
    accepted = [*range(200, 300), *([404] if may_be_missing else [])]
    for left in range(_TRIES - 1, -1, -1):
        try:
            answer = await client.request(
                "GET",
                place.path,
                query=place.query,
                headers=headers,
                expect_status=accepted,
                max_bytes=paging.max_bytes,
            )
        except errors.TransientError as error:
            if not left:
                raise
            asked = error.retry_after
            await asyncio.sleep(_PAUSE_S if asked is None else asked.total_seconds())
        else:
            return None if answer.status == 404 else answer
    return None


def _key(place: Place) -> str:
    return f"{place.path} {sorted(place.query.items(), key=str)}"


def _first(start: Place, paging: Paging) -> Place:
    query = dict(start.query)
    if paging.page_size is not None:
        query[paging.size_param] = paging.page_size
    if paging.style in {"page", "offset"}:
        first = paging.first
        query[paging.param or paging.style] = (
            int(paging.style == "page") if first is None else first
        )
    return replace(start, query=query)


def _items(start: Place, answer: Answer, paging: Paging) -> list[Any]:
    found = find(f"{start.path}", paging.items, answer.body)
    if not isinstance(found, list):
        where = f"at {paging.items!r}" if paging.items else "in its body"
        raise errors.ExpectationFailed(f"{start.path}: has no list {where}")
    return found


def _next(start: Place, place: Place, answer: Answer, count: int, paging: Paging) -> Place | None:
    """Return where the next page is, None after the last."""
    if paging.style == "link":
        return None if answer.next_url is None else Place(answer.next_url)
    if paging.style in {"next", "cursor"}:
        found = find(f"{start.path}", paging.next or paging.style, answer.body)
        if found is None or found in ("", False):
            return None
        if paging.style == "cursor":
            return replace(place, query={**place.query, paging.param or "cursor": found})
        return Place(_joined(start, answer, found))
    if not count:
        return None
    name = paging.param or paging.style
    step = 1 if paging.style == "page" else count
    return replace(place, query={**place.query, name: place.query[name] + step})


def _joined(start: Place, answer: Answer, found: Any) -> httpx.URL:
    try:
        return answer.url.join(str(found))
    except httpx.InvalidURL:
        raise errors.BadAnswer(f"{start.path}: the next page is at what is no URL") from None
