"""Secrets out, before anything is written or logged.

A secret is known in three ways: by value (:func:`register` is called for each ``SecretStr`` of a
loaded connection), by the name of the key under which it stands, and by its shape.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

from pydantic import SecretBytes, SecretStr

MASK = "********"
_SHORTEST = 4  # masking every "1" would destroy the record and protect nobody
_KEY = re.compile(
    r"(pass(word|wd|phrase)?|secret|token|api[-_]?key|authori[sz]ation|cookie|credential|private[-_]?key)",
    re.IGNORECASE,
)
_WORDS = r"pass(?:word|wd|phrase)?|secret|token|api[-_]?key|authori[sz]ation|cookie|credential|pin"
_ENDS_SECRET = re.compile(rf"(?:{_WORDS})s?$", re.IGNORECASE)
_IN_JSON = re.compile(rf'("[^"]*(?:{_WORDS})s?"\s*:\s*)(?:"[^"]*"?|\d+)', re.IGNORECASE)
_SHAPES = (
    re.compile(r"(?i)(?<=://)([^/\s:@]+):([^/\s@]+)(?=@)"),
    re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
)
_known: tuple[str, ...] = ()
"""The longest first: a secret may be a part of another."""
_guard = threading.Lock()
_WHOLE = (str, bytes, list, tuple, set, frozenset, Mapping, SecretStr, SecretBytes)


def register(secret: str | SecretStr | None) -> None:
    """Remember a secret value, so that :func:`text` masks it wherever it appears."""
    global _known  # noqa: PLW0603 - what is secret is so for the whole process
    value = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
    if value and len(value) >= _SHORTEST:
        with _guard:
            found = {*_known, value, quote(value, safe=""), quote_plus(value)}
            _known = tuple(sorted(found, key=len, reverse=True))


def secrets() -> frozenset[str]:
    """Return every registered secret, as it is and as it stands in addresses."""
    return frozenset(_known)


def names_secret(key: str) -> bool:
    """Return whether what stands under this name is a secret by its name."""
    return _KEY.search(key) is not None


def known(value: str) -> str:
    """Return the text with every registered secret masked, and nothing else changed."""
    for secret in _known:
        value = value.replace(secret, MASK)
    return value


def text(value: str) -> str:
    """Return the text with every registered secret and every secret-like shape masked."""
    value = known(value)
    # Looked for before it is replaced: next to no text has any of it, and each passes here.
    if '"' in value:
        value = _IN_JSON.sub(rf'\1"{MASK}"', value)
    if "://" in value:
        value = _SHAPES[0].sub(rf"\1:{MASK}", value)
    if _SHAPES[1].search(value):
        value = _SHAPES[1].sub(rf"\1 {MASK}", value)
    return _SHAPES[2].sub(MASK, value) if "eyJ" in value else value


def scrub(value: Any) -> Any:
    """Return a JSON-like value with secrets masked, in keys' values and in texts."""
    if isinstance(value, (SecretStr, SecretBytes)):
        return MASK
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(str(key)): _scrub_item(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [scrub(item) for item in value]
    return value


def _scrub_item(key: str, item: Any) -> Any:
    if item is None or isinstance(item, bool):
        return item
    names, ends = _is_of_secret(key)
    if ends or (names and isinstance(item, _WHOLE) and item):
        return MASK
    return scrub(item)


@lru_cache(maxsize=4096)
def _is_of_secret(key: str) -> tuple[bool, bool]:
    """Return whether a key has a word for a secret in it, and whether it ends with one."""
    return _KEY.search(key) is not None, _ENDS_SECRET.search(key) is not None
