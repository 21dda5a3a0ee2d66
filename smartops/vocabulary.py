"""Words that the job language and the drivers share: frozen models, no behaviour."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

_TAGS = ("kind", "do")
ID_PATTERN = r"^[a-z][a-z0-9_]*$"


class Strict(BaseModel):
    """Frozen, and refuses unknown keys: a setting that is accepted is enforced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_serializer(mode="wrap")
    def _keep_tag(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write what tells the members of a union apart, also where defaults are left out."""
        tags = {name: getattr(self, name) for name in _TAGS if name in type(self).model_fields}
        return {**tags, **handler(self)}


class OneTabPerMember:
    """Says ``anyOf`` for a union in the JSON Schema, where pydantic says ``oneOf``.

    Prefect's form shows a tab for each member of both, but with ``oneOf`` it falls back to the
    first tab whenever another one is chosen.
    """

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema with its members under ``anyOf``."""
        found = handler(schema)
        if "oneOf" in found:
            found["anyOf"] = found.pop("oneOf")
            found.pop("discriminator", None)
        return found


class Effect(StrEnum):
    """What making the same call twice would do to the world."""

    READ = "read"
    IDEMPOTENT = "idempotent"
    UNSAFE = "unsafe"


_ABOUT = ("title", "description", "position", "examples")


def blank_in_form(schema: dict[str, Any]) -> None:
    """Let Prefect's form leave a field out that nobody has filled in; for ``json_schema_extra``.

    The form for a schedule has all parameters, to override those of the deployment. What it fills
    in by itself, objects and None, would override a job with one that is made of blanks. It leaves
    alone what is one of several schemas, and so is what is one of one.
    """
    schema.pop("default", None)
    own = {key: schema.pop(key) for key in list(schema) if key not in _ABOUT}
    schema["anyOf"] = [kind for kind in own.get("anyOf", [own]) if kind != {"type": "null"}]


_MARK = "__prefect_kind"
"""What the form in Prefect's UI puts around a field that is written as JSON."""


def without_form_marks(value: Any) -> Any:
    """Return what was filled in: copies that are made in Prefect's UI keep the form's own marks."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not (_is_marked(v) and "value" not in v)}
        return {key: without_form_marks(_unmarked(item)) for key, item in kept.items()}
    if isinstance(value, list):
        return [without_form_marks(_unmarked(item)) for item in value]
    return value


def _is_marked(value: Any) -> bool:
    return isinstance(value, dict) and value.get(_MARK) in {"json", "none"}


def _unmarked(value: Any) -> Any:
    if not _is_marked(value):
        return value
    text = value.get("value")
    return json.loads(text) if value[_MARK] == "json" and isinstance(text, str) else text
