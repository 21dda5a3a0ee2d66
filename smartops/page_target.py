"""Which element of a page an action means, in Playwright's own words."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from smartops.durations import Duration
from smartops.vocabulary import ID_PATTERN, Strict

OutputName = Annotated[str, Field(pattern=ID_PATTERN, max_length=64)]
WAYS = ("label", "role", "text", "test_id", "css", "placeholder", "alt", "title")
_WAYS_IN_WORDS = ", ".join(WAYS[:-1]) + f" and {WAYS[-1]}"


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
"""A list of texts; one alone need not stand in a list."""


class Target(Strict):
    """Which element: give exactly one of label, role, text, test_id, css, placeholder, alt, title.

    It has to be the only one that matches, unless ``nth`` says which. Elements in open shadow roots
    are found like any others.
    """

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
    placeholder: str | None = Field(
        default=None, title="Placeholder", description="The placeholder of a form field."
    )
    alt: str | None = Field(
        default=None, title="Alternative text", description="The alternative text of a picture."
    )
    title: str | None = Field(default=None, title="Title", description="Its title attribute.")
    exact: bool = Field(
        default=False,
        title="Exact",
        description="Whether label, name, text, placeholder, alt or title must be the whole text, "
        "in the same case.",
    )
    has_text: str | None = Field(
        default=None, title="Has text", description="Only an element that contains this text."
    )
    nth: int | None = Field(
        default=None, title="Nth", description="Which of several, from 0; -1 is the last."
    )
    frame: Texts = Field(
        default=(),
        title="Frame",
        description="CSS selectors of the frames around it, the outermost first.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Target:
        if sum(getattr(self, way) is not None for way in WAYS) != 1:
            raise ValueError(f"give exactly one of {_WAYS_IN_WORDS}")
        if self.name is not None and self.role is None:
            raise ValueError("name goes with role")
        if self.exact and (self.css is not None or self.test_id is not None):
            raise ValueError("exact has no meaning with css and test_id")
        if self.exact and self.role is not None and self.name is None:
            raise ValueError("with a role, exact goes with name")
        return self


class PageAction(Strict):
    """What all actions have."""

    within: Annotated[
        Duration | None, WithJsonSchema({"type": "string", "examples": ["500ms", "5s"]})
    ] = Field(
        default=None,
        title="Within",
        description="How long the action may wait for the page. Empty: as the profile says.",
    )
