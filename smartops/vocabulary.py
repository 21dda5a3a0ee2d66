"""Words that the job language and the drivers share: frozen models, no behaviour."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
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


OutputName = Annotated[str, Field(pattern=ID_PATTERN, max_length=64)]


class Target(Strict):
    """Which element: give exactly one of label, role, text, test_id and css."""

    label: str | None = Field(default=None, title="Label", description="The label of a form field.")
    role: str | None = Field(
        default=None, title="Role", description="The ARIA role, such as button, link or heading."
    )
    name: str | None = Field(
        default=None, title="Name", description="With a role: its accessible name."
    )
    text: str | None = Field(default=None, title="Text", description="The text that it contains.")
    test_id: str | None = Field(
        default=None, title="Test id", description="Its data-testid attribute."
    )
    css: str | None = Field(default=None, title="CSS", description="A CSS selector.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Target:
        ways = ("label", "role", "text", "test_id", "css")
        if sum(getattr(self, way) is not None for way in ways) != 1:
            raise ValueError("give exactly one of label, role, text, test_id and css")
        if self.name is not None and self.role is None:
            raise ValueError("name goes with role")
        return self


class Goto(Strict):
    """Open a page."""

    do: Literal["goto"] = "goto"
    path: str = Field(
        default="/",
        min_length=1,
        title="Path",
        description="Path below the profile's base URL, such as /login.",
    )


class Fill(Strict):
    """Type into a form field."""

    do: Literal["fill"] = "fill"
    target: Target = Field(title="Target", description="The form field.")
    value: str | None = Field(default=None, title="Value", description="The text to type.")
    credential: Literal["username", "password"] | None = Field(
        default=None,
        title="Credential",
        description="Type the profile's user name or password in place of a value.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Fill:
        if (self.value is None) == (self.credential is None):
            raise ValueError("give either a value or a credential")
        return self


class Click(Strict):
    """Click an element."""

    do: Literal["click"] = "click"
    target: Target = Field(title="Target", description="What to click.")
    times: int = Field(
        default=1, ge=1, le=3, title="Times", description="How often; 2 is a double click."
    )


class Expect(Strict):
    """Wait until an element is there, or is gone, with a text where one is given."""

    do: Literal["expect"] = "expect"
    target: Target = Field(title="Target", description="Which element.")
    visible: bool = Field(
        default=True, title="Visible", description="Whether it must be visible, or must not be."
    )
    contains: str | None = Field(
        default=None, title="Contains", description="A text that it must contain."
    )

    @model_validator(mode="after")
    def _text_is_visible(self) -> Expect:
        if self.contains is not None and not self.visible:
            raise ValueError("contains goes with visible")
        return self


class Extract(Strict):
    """Take an element's text as an output of the step."""

    do: Literal["extract"] = "extract"
    target: Target = Field(title="Target", description="The element whose text to take.")
    output: OutputName = Field(
        default="text",
        title="Output",
        description="Name of the output: steps.<id>.values.<output>.",
    )


class Screenshot(Strict):
    """Take a picture of the page as evidence."""

    do: Literal["screenshot"] = "screenshot"
    name: OutputName = Field(default="page", title="Name", description="Name of the picture.")
    full_page: bool = Field(
        default=False, title="Full page", description="The whole page, not what fits the window."
    )


Action = Annotated[
    Goto | Fill | Click | Expect | Extract | Screenshot,
    Field(discriminator="do"),
    OneTabPerMember(),
]


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
