"""Checks of what a job says about answers: JMESPath and JSON Schema, before anything is started."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_CHECKSUMS = {"md5": 32, "sha1": 40, "sha256": 64, "sha512": 128}


def check_jmespath(expression: str) -> str:
    """Return the expression. Raises ValueError for one that is no JMESPath."""
    import jmespath  # noqa: PLC0415 - few jobs need it

    if expression and "{{" not in expression:
        try:
            jmespath.compile(expression)
        except jmespath.exceptions.JMESPathError as error:
            text = " ".join(str(error).split())
            raise ValueError(f"{expression!r} is no JMESPath: {text}") from None
    return expression


def check_schema(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the schema. Raises ValueError for one that is no JSON Schema or points elsewhere."""
    if schema is None:
        return None
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - slow to import
    from jsonschema.validators import validator_for  # noqa: PLC0415

    try:
        validator_for(schema, Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"no JSON Schema: {error.message} at {error.json_path}") from None
    for reference in _references(schema):
        if not reference.startswith("#"):
            raise ValueError(f"a schema stands by itself; $ref {reference!r} leads elsewhere")
    return schema


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key in {"$ref", "$dynamicRef"} and isinstance(item, str):
                yield item
            yield from _references(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)


def check_checksum(text: str) -> str:
    """Return a checksum such as ``sha256:…``. Raises ValueError for another text."""
    if text and "{{" not in text:
        name, _, digits = text.partition(":")
        is_hex = set(digits.lower()) <= set("0123456789abcdef")
        if _CHECKSUMS.get(name) != len(digits) or not is_hex:
            known = ", ".join(_CHECKSUMS)
            raise ValueError(f"{text!r} is no checksum; write NAME:HEX with one of {known}")
    return text.lower()
