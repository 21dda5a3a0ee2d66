"""Files from REST services: streamed to disk, taken up where they were broken off, checked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

from smartops import errors
from smartops.drivers.rest import RestDriver, refusal
from smartops.drivers.rest_body import decoded
from smartops.drivers.rest_exchange import Call, Exchange
from smartops.drivers.wire_notes import write_note

_TRIES = 3
"""How often in a row it may break off without anything having come."""
_PAUSE_S = 0.5
_LOOK_EACH = 16_000_000
"""How many bytes may come before the free space is looked at again."""


@dataclass(frozen=True)
class Wanted:
    """Which file, and where it is to be."""

    url: httpx.URL
    headers: Mapping[str, str]
    part: Path
    """Where it is kept as long as it is not complete; a later attempt goes on with it."""
    target: Path
    max_bytes: int
    checksum: str = ""
    """Such as ``sha256:…``; empty: any."""
    reserve: int = 0
    """How many bytes of the disk are to stay free."""


@dataclass(frozen=True)
class Downloaded:
    """A file that is complete and checked."""

    path: Path
    size: int
    sha256: str
    media_type: str
    resumed: int
    """How many times it was taken up again."""


class _State:
    """What is there already, and by what the rest of the same file is known."""

    def __init__(self, part: Path, url: httpx.URL) -> None:
        self._part, self._note, self._url = part, part.with_suffix(".part.json"), str(url)
        self.validator = ""
        self.resumed = 0
        self.media_type = ""

    def have(self) -> int:
        """Return how many bytes are there that can be gone on with."""
        try:
            note = json.loads(self._note.read_text("utf-8"))
            size = self._part.stat().st_size
        except (OSError, ValueError):
            return 0
        if note.get("url") != hashlib.sha256(self._url.encode()).hexdigest():
            return 0
        self.validator = str(note["validator"])
        return size if self.validator else 0

    def begin(self, response: httpx.Response) -> None:
        """Note by what the file is known again: a strong ETag, else when it was changed."""
        etag = response.headers.get("etag", "")
        usable = "" if etag.startswith("W/") else etag
        self.validator = usable or response.headers.get("last-modified", "")
        url = hashlib.sha256(self._url.encode()).hexdigest()  # its query may hold a secret
        write_note(self._note, {"url": url, "validator": self.validator})

    def forget(self) -> None:
        """Throw away what is there."""
        self._part.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def done(self, target: Path) -> None:
        """Put the file where it is to be."""
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self._part, target)  # noqa: PTH105 - named as what it is: atomic
        self._note.unlink(missing_ok=True)


async def download(client: RestDriver, wanted: Wanted) -> Downloaded:
    """Fetch a file. It goes on as long as something comes; what is there is kept for the next try.

    Raises BadAnswer for one that is too large, ExpectationFailed for a wrong checksum,
    PermanentError for a disk that cannot take it, and the errors of a request.
    """
    state = _State(wanted.part, wanted.url)
    idle = 0
    while True:
        before = state.have()
        try:
            await _fetch(client, wanted, state, before)
            break
        except errors.ServiceUnavailable as error:
            idle = 0 if state.have() > before else idle + 1
            if idle >= _TRIES:
                raise
            asked = error.retry_after
            await asyncio.sleep(_PAUSE_S * idle if asked is None else asked.total_seconds())
        except (errors.BadAnswer, errors.ExpectationFailed):
            state.forget()
            raise
        except OSError as error:
            state.forget()
            raise errors.PermanentError(f"{wanted.target.name}: cannot be kept: {error}") from error
    sha256 = await asyncio.to_thread(_digest, wanted.part, "sha256")
    await _check(wanted, state, sha256)
    size = wanted.part.stat().st_size
    state.done(wanted.target)
    return Downloaded(wanted.target, size, sha256, state.media_type, state.resumed)


async def _fetch(client: RestDriver, wanted: Wanted, state: _State, have: int) -> None:
    headers = {**wanted.headers, "accept-encoding": "identity"}
    if have:
        headers |= {"range": f"bytes={have}-", "if-range": state.validator}
    async with client.answering(Call("GET", wanted.url, headers)) as (response, exchange):
        status = response.status_code
        if status == 416 and have:
            state.forget()  # it is shorter than what we have: another file
            raise errors.ServiceUnavailable(f"{exchange.what}: has changed meanwhile")
        if status not in {200, 206}:
            raise await refusal(client.connection.name, response, exchange)
        goes_on = status == 206 and _starts_at(response) == have
        if status == 206 and not goes_on:
            raise errors.BadAnswer(f"{exchange.what}: gives another part than was asked for")
        state.media_type = response.headers.get("content-type", "").partition(";")[0].strip()
        if goes_on:
            state.resumed += 1
        else:
            state.forget()
            have = 0
            state.begin(response)
        length = response.headers.get("content-length", "")
        expected = have + int(length) if length.isdecimal() else have
        _check_size(expected, wanted, exchange)
        wanted.part.parent.mkdir(parents=True, exist_ok=True)
        with wanted.part.open("ab" if goes_on else "wb") as file:
            _check_room(wanted, expected - have)
            await _write(response, file, have, wanted, exchange)


async def _write(
    response: httpx.Response, file: IO[bytes], have: int, wanted: Wanted, exchange: Exchange
) -> None:
    size, looked = have, have
    try:
        async for piece in decoded(response, exchange.what):
            size += len(piece)
            _check_size(size, wanted, exchange)
            if size - looked > _LOOK_EACH:
                _check_room(wanted, _LOOK_EACH)
                looked = size
            file.write(piece)
    finally:
        file.flush()
    await asyncio.to_thread(os.fsync, file.fileno())


def _check_size(size: int, wanted: Wanted, exchange: Exchange) -> None:
    if size > wanted.max_bytes:
        raise errors.BadAnswer(f"{exchange.what}: is larger than {wanted.max_bytes:,} bytes")


def _check_room(wanted: Wanted, size: int) -> None:
    free = shutil.disk_usage(wanted.part.parent).free
    if free - size < wanted.reserve:
        raise OSError(f"{size:,} bytes more would leave less than {wanted.reserve:,} bytes free")


def _starts_at(response: httpx.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("content-range", ""))
    return int(match[1]) if match else None


async def _check(wanted: Wanted, state: _State, sha256: str) -> None:
    name, _, digits = wanted.checksum.partition(":")
    if not name:
        return
    found = sha256
    if name != "sha256":
        found = await asyncio.to_thread(_digest, wanted.part, name)
    if found != digits.lower():
        state.forget()
        raise errors.ExpectationFailed(
            f"{wanted.target.name}: its checksum is {name}:{found}, and {digits} is expected"
        )


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as file:
        found: Any = hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False))
        return str(found.hexdigest())


def safe_name(name: str) -> str:
    """Return a file name of which nothing leads out of its folder."""
    return re.sub(r"[^\w.-]+", "_", name).lstrip(".")[-150:] or "download"
