"""What MQTT messages hold: JSON, texts, bytes. Pure."""

from __future__ import annotations

import json
from typing import Any, Literal

from smartops import errors

Format = Literal["auto", "json", "text", "hex"]


def encode(value: Any, form: Format = "auto") -> bytes:
    """Return a payload: in ``auto`` a text as it is, anything else as JSON. Raises BadInput."""
    if form == "hex":
        try:
            return bytes.fromhex(value)
        except (TypeError, ValueError):
            raise errors.BadInput(f"{value!r} is no text of hexadecimal digits") from None
    if isinstance(value, str) and form in {"auto", "text"}:
        return value.encode()
    if form == "text":
        raise errors.BadInput(f"{value!r} is no text")
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise errors.BadInput(f"the payload is no JSON: {error}") from None


def decode(payload: bytes) -> Any:
    """Return what a payload says: JSON's value, else the text, else its bytes in hexadecimal."""
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return payload.hex()
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number that JSON has")
