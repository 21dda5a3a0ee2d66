"""What MQTT messages hold: JSON, CBOR, texts, bytes. Pure."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import cbor2

from smartops import errors

Format = Literal["auto", "json", "text", "hex", "cbor"]
CBOR = "application/cbor"
"""What MQTT 5 messages say that hold CBOR (RFC 8949)."""


def encode(value: Any, form: Format = "auto") -> bytes:
    """Return a payload: in ``auto`` a text as it is, anything else as JSON. Raises BadInput."""
    if form == "hex":
        try:
            return bytes.fromhex(value)
        except (TypeError, ValueError):
            raise errors.BadInput(f"{value!r} is no text of hexadecimal digits") from None
    if form == "cbor":
        return cbor2.dumps(value)
    if isinstance(value, str) and form in {"auto", "text"}:
        return value.encode()
    if form == "text":
        raise errors.BadInput(f"{value!r} is no text")
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise errors.BadInput(f"the payload is no JSON: {error}") from None


def decode(payload: bytes, *, cbor: bool = False) -> Any:
    """Return what a payload says: JSON's value, else the text, else its bytes in hexadecimal.

    ``cbor`` says that it is CBOR; then it is its value, or the bytes where it is none. Byte strings
    in it become hexadecimal digits, and keys texts.
    """
    if cbor:
        return _from_cbor(payload)
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return payload.hex()
    try:
        found = json.loads(text, parse_constant=_no_number)
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        return text
    return found


def _from_cbor(payload: bytes) -> Any:
    try:
        with io.BytesIO(payload) as stream:
            found = cbor2.load(stream)
            rest = stream.read(1)
    except Exception:  # noqa: BLE001 - whatever the decoder runs into in what somebody sent
        return payload.hex()
    return payload.hex() if rest else _as_json(found)


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_as_json(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number that JSON has")
