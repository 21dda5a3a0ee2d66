"""Takes secrets out of a browser's evidence: its trace, its network log, its texts. Pure of pages.

A secret that was typed stands in them in many forms: as it is, escaped in JSON and HTML, in an
address, in base64 with anything before and behind it, and each of these within another.
"""

from __future__ import annotations

import base64
import html
import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from smartops.redact import MASK, names_secret

_SHORTEST = 4
_LISTS = ("headers", "cookies", "queryString", "params")
_BASE64_OF = 6
"""The least characters of base64 that are masked: fewer would fit by chance."""


class Masker:
    """Knows all forms of some secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found: dict[bytes, bytes] = {}
        for secret in secrets:
            if len(secret) >= _SHORTEST:
                found.update(_forms(secret))
        self._forms = sorted(found.items(), key=lambda form: -len(form[0]))

    def data(self, content: bytes) -> bytes:
        """Return some content without the secrets."""
        for form, mask in self._forms:
            if form in content:
                content = content.replace(form, mask)
        return content

    def text(self, content: str) -> str:
        """Return a text without the secrets."""
        return self.data(content.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")

    def har(self, path: Path) -> None:
        """Mask a network log in its place: the secrets, and what by its name is one."""
        log = json.loads(path.read_text("utf-8"))
        _mask_named(log)
        path.write_bytes(self.data(json.dumps(log, ensure_ascii=False).encode()))

    def trace(self, path: Path) -> None:
        """Mask a Playwright trace (zip) in its place."""
        new = path.with_suffix(".masked")
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as made:
            for entry in old.infolist():
                content = old.read(entry)
                if entry.filename.endswith((".trace", ".network", ".stacks")):
                    content = _lines(content)
                made.writestr(self.text(entry.filename), self.data(content))
        new.replace(path)


def _lines(content: bytes) -> bytes:
    """Mask what by its name is a secret in lines of JSON."""
    lines = []
    for line in content.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            lines.append(line)
            continue
        _mask_named(value)
        lines.append(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return b"\n".join([*lines, b""])


def _mask_named(value: Any) -> None:
    """Mask the values of headers, cookies and form fields whose names say that they are secret."""
    queue = [value]
    while queue:
        found = queue.pop()
        if isinstance(found, list):
            queue.extend(found)
        elif isinstance(found, dict):
            for name in _LISTS:
                for pair in _pairs(found.get(name)):
                    if name == "cookies" or names_secret(str(pair["name"])):
                        pair["value"] = MASK
            queue.extend(found.values())


def _pairs(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        return []
    return [pair for pair in value if isinstance(pair, dict) and {"name", "value"} <= pair.keys()]


def _forms(secret: str) -> dict[bytes, bytes]:
    """Return each form that a secret may have, with what is put in its place."""
    steps: tuple[Callable[[str], str], ...] = (
        lambda text: text,
        _json,
        _ascii_json,
        html.escape,
        lambda text: html.escape(text, quote=False),
        lambda text: quote(text, safe=""),
        lambda text: quote(text, safe="/"),
        lambda text: quote_plus(text, safe=""),
        lambda text: quote(text, safe="!'()*-._~"),
        lambda text: quote_plus(text, safe="*-._"),
    )
    plain = {step(secret) for step in steps}
    plain |= {_lower_percent(text) for text in plain}
    twice = {outer(inner) for inner in plain for outer in steps}
    found = {text.encode("utf-8", "surrogatepass"): MASK.encode() for text in plain | twice}
    for text in plain:
        found.update(_base64(text.encode("utf-8", "surrogatepass")))
    wide = secret.encode("utf-16-le", "surrogatepass")
    return {**found, wide: MASK.encode("utf-16-le")}


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _ascii_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _lower_percent(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])


def _base64(content: bytes) -> dict[bytes, bytes]:
    """Return what is the same in base64 whatever stands before and behind it."""
    found = {}
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + content + b"\0" * 3)
        first = -(-before * 8 // 6)
        last = (before + len(content)) * 8 // 6
        for core in (whole[first:last], whole[first:last].translate(_URL_SAFE)):
            if len(core) >= _BASE64_OF:
                found[core] = b"A" * len(core)  # what reads base64 can still read it
    return found


_URL_SAFE = bytes.maketrans(b"+/", b"-_")
