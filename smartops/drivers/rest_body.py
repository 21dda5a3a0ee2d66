"""The bodies of REST calls: made of what a job says, and read up to a limit, packed or not."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from smartops import errors

BodyFormat = Literal["json", "form", "text", "multipart"]
BIGGEST_BODY = 10_000_000
"""Bytes of an answer that is kept in memory, where a job says nothing else."""
_PIECE = 65_536


@dataclass(frozen=True)
class Body:
    """What is sent. It can be made as often as it is sent."""

    make: Callable[[ExitStack], dict[str, Any]]
    """Gives httpx's arguments, for each sending anew; files are closed with the stack."""


NOTHING = Body(lambda _files: {})


def encode(value: Any, form: BodyFormat, what: str) -> Body:
    """Return the body for a value. Raises BadInput for one that the form cannot hold."""
    if value is None:
        return NOTHING
    if form == "json":
        return json_body(_json(value, what))
    if form == "text":
        text = value if isinstance(value, str) else json.dumps(value)
        return Body(lambda _files: {"content": text.encode(), "headers": _PLAIN})
    if not isinstance(value, Mapping):
        raise errors.BadInput(f"{what}: a body of the form {form} is a mapping of names to values")
    if form == "form":
        fields = {str(name): _field(item, what) for name, item in value.items()}
        return Body(lambda _files: {"data": fields})
    parts = [(str(name), _part(item, what)) for name, item in value.items()]
    return Body(lambda _files: {"files": parts})


_PLAIN = {"content-type": "text/plain; charset=utf-8"}


def json_body(content: bytes) -> Body:
    """Return a body of JSON that is sent as it is, byte for byte."""
    return Body(
        lambda _files: {"content": content, "headers": {"content-type": "application/json"}}
    )


def _json(value: Any, what: str) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError) as error:
        raise errors.BadInput(f"{what}: the body cannot be written as JSON: {error}") from None
    return text.encode()


def _field(item: Any, what: str) -> Any:
    if isinstance(item, (list, tuple)):
        return [_field(one, what) for one in item]
    if isinstance(item, Mapping):
        raise errors.BadInput(f"{what}: a field of a form is a text, a number or a list of these")
    if isinstance(item, bool):
        return "true" if item else "false"
    return "" if item is None else str(item)


def _part(item: Any, what: str) -> tuple[str | None, bytes] | tuple[str | None, bytes, str]:
    """Return a part: a text, or ``{content, filename, type}``."""
    if not isinstance(item, Mapping):
        return None, str(_field(item, what)).encode()
    unknown = set(item) - {"content", "filename", "type"}
    if unknown or "content" not in item:
        raise errors.BadInput(f"{what}: a part is a text, or has content, filename and type")
    content, name = item["content"], item.get("filename")
    text = content if isinstance(content, str) else json.dumps(content)
    kind = str(item.get("type") or "text/plain")
    return (None if name is None else str(name)), text.encode(), kind


def file_parts(file: Path, field: str, name: str, kind: str, fields: Mapping[str, Any]) -> Body:
    """Return a multipart body with a file, which is read while it is sent."""

    def make(files: ExitStack) -> dict[str, Any]:
        opened = files.enter_context(file.open("rb"))
        return {
            "data": {k: _field(v, field) for k, v in fields.items()},
            "files": {field: (name, opened, kind)},
        }

    return Body(make)


def file_stream(file: Path, kind: str) -> Body:
    """Return a body that is a file by itself, which is read while it is sent."""

    def make(files: ExitStack) -> dict[str, Any]:
        opened = files.enter_context(file.open("rb"))
        length = str(file.stat().st_size)

        async def pieces() -> AsyncIterator[bytes]:
            while piece := await asyncio.to_thread(opened.read, _PIECE):
                yield piece

        return {"content": pieces(), "headers": {"content-type": kind, "content-length": length}}

    return Body(make)


async def read_limited(response: httpx.Response, limit: int, what: object) -> bytes:
    """Return an answer's body, decoded. Raises BadAnswer when it is larger than the limit."""
    parts: list[bytes] = []
    size = 0
    async for part in decoded(response, what):
        size += len(part)
        if size > limit:
            raise errors.BadAnswer(f"{what}: the answer is larger than {limit:,} bytes")
        parts.append(part)
    return b"".join(parts)


async def read_beginning(response: httpx.Response, most: int, what: object) -> bytes:
    """Return what can be read of an answer's body, decoded; not more than about ``most`` bytes."""
    found = bytearray()
    with suppress(errors.BadAnswer, httpx.HTTPError):
        async for part in decoded(response, what):
            found += part
            if len(found) >= most:
                break
    return bytes(found)


async def decoded(response: httpx.Response, what: object) -> AsyncIterator[bytes]:
    """Yield the body in small pieces, however much a few bytes of it may unpack to."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in {"identity", ""}:
        async for raw in response.aiter_raw():
            yield raw
        return
    if coding not in {"gzip", "x-gzip", "deflate"}:
        raise errors.BadAnswer(f"{what}: the answer is packed as {coding}, which was not asked for")
    unpacker = _Unpacker(coding, what)
    async for raw in response.aiter_raw():
        for part in unpacker.unpack(raw):
            yield part
    unpacker.check_end()


class _Unpacker:
    """Unpacks gzip and deflate, a bounded piece at a time."""

    def __init__(self, coding: str, what: object) -> None:
        self._what = what
        self._gzip = coding != "deflate"
        self._zlib: Any = None
        self._has_begun = False

    def unpack(self, raw: bytes) -> Any:
        """Yield what some bytes unpack to."""
        while raw:
            if self._zlib is None:
                self._zlib = zlib.decompressobj(self._window(raw))
            self._has_begun = True
            try:
                part = self._zlib.decompress(raw, _PIECE)
            except zlib.error as error:
                raise errors.BadAnswer(
                    f"{self._what}: the answer cannot be unpacked: {error}"
                ) from None
            yield part
            raw = self._zlib.unconsumed_tail
            if self._zlib.eof:
                raw, self._zlib = self._zlib.unused_data, None

    def _window(self, raw: bytes) -> int:
        if self._gzip:
            return 16 + zlib.MAX_WBITS
        # Some servers send the bare stream where the standard says one with a header.
        return zlib.MAX_WBITS if raw[0] & 0x0F == 8 else -zlib.MAX_WBITS

    def check_end(self) -> None:
        """Raise BadAnswer where the packed data is cut short."""
        if self._has_begun and self._zlib is not None:
            raise errors.BadAnswer(f"{self._what}: the packed answer is cut short")


def parse(response: httpx.Response, content: bytes, what: object) -> Any:
    """Return parsed JSON where the answer says that it is JSON, else its text."""
    try:
        text = content.decode(response.encoding or "utf-8", "replace").removeprefix("\ufeff")
    except LookupError:
        raise errors.BadAnswer(f"{what}: the answer is in an unknown character set") from None
    if "json" not in response.headers.get("content-type", "") or not text:
        return text
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise errors.BadAnswer(f"{what}: the answer says JSON but is none: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
