"""``rest.paginate``: a list that comes in pages; ``rest.poll``: an answer that takes its time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from smartops.durations import Duration, duration_field, format_duration
from smartops.jobs.kinds import register
from smartops.jobs.kinds.rest import EXPECT_SCHEMA, EXTRACT, JmesPath, JsonSchema, RestRead, biggest
from smartops.jobs.step import shorten, suggest

Style = Literal["link", "next", "cursor", "page", "offset"]
_OF_STYLES = {
    "next": {"next", "cursor"},
    "param": {"cursor", "page", "offset"},
    "first": {"page", "offset"},
}
"""Which styles an option has an effect with."""


@register
class RestPaginate(RestRead):
    """Read a list that a REST API gives in pages."""

    model_config = ConfigDict(title="REST pages")

    kind: Literal["rest.paginate"] = "rest.paginate"
    style: Style = Field(
        default="link",
        title="Style",
        description="Where the next page is: link: in the Link header; next: its URL in the body; "
        "cursor: a text in the body that is sent back; page: by its number; offset: by the number "
        "of the items before it. The last two end with an empty page.",
    )
    items: JmesPath = Field(
        default="",
        title="Items",
        description="Where a page's items stand in its body, in JMESPath, such as data.items; "
        "empty: the body is the list.",
    )
    next: JmesPath = Field(
        default="",
        title="Next",
        description="Where the next page's URL or cursor stands in the body, in JMESPath; empty: "
        "`next` or `cursor`, as the style is called.",
    )
    param: str = Field(
        default="",
        title="Parameter",
        description="Name of the query parameter for the cursor, page or offset; empty: as the "
        "style is called.",
    )
    first: int | None = Field(
        default=None,
        ge=0,
        title="First",
        description="Number of the first page (default: 1), or the first offset (default: 0).",
    )
    page_size: int | None = Field(
        default=None, ge=1, le=100_000, title="Page size", description="How many items to ask for."
    )
    size_param: str = Field(
        default="limit",
        min_length=1,
        title="Parameter of the size",
        description="Name of the query parameter for the page size.",
    )
    max_pages: int = Field(
        default=100, ge=1, le=10_000, title="Most pages", description="How many pages to read."
    )
    max_items: int = Field(
        default=10_000, ge=1, le=1_000_000, title="Most items", description="How many to read."
    )
    on_limit: Literal["fail", "stop"] = Field(
        default="fail",
        title="At a limit",
        description="What more pages or items than that mean: the step fails, or goes on with what "
        "it has, and `complete` is false.",
    )
    max_bytes: int = biggest(10_000_000, 100_000_000)

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        for name, styles in _OF_STYLES.items():
            if name in self.changed() and self.style not in styles:
                raise ValueError(f"{name} has no effect with style: {self.style}")
        if "size_param" in self.changed() and self.page_size is None:
            raise ValueError("size_param goes with a page_size")
        return self

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return how many items and pages there were."""
        text = f"{output['count']} items in {output['pages']} pages"
        return text if output["complete"] else f"{text}; there are more"


@register
class RestPoll(RestRead):
    """Ask a REST API until an answer is as it should be."""

    model_config = ConfigDict(title="REST poll")

    kind: Literal["rest.poll"] = "rest.poll"
    until: JmesPath = Field(
        default="",
        title="Until",
        description="What must be true of the answer's body, in JMESPath, such as state == 'done'; "
        "empty: until the status is another than 202.",
        json_schema_extra=suggest(""),
    )
    fails_when: JmesPath = Field(
        default="",
        title="Fails when",
        description="What means that it will never be so, in JMESPath, such as state == 'failed'.",
    )
    every: Duration = duration_field(
        "2s",
        gt=timedelta(),
        title="Every",
        description="How often to ask; a longer Retry-After of the service counts.",
    )
    within: Duration = duration_field(
        "50s",
        gt=timedelta(),
        title="Within",
        description="How long to ask at the most. The step's time limit has to be longer.",
    )
    expect_schema: JsonSchema = EXPECT_SCHEMA
    extract: dict[str, JmesPath] = EXTRACT
    max_bytes: int = biggest(10_000_000, 100_000_000)

    @model_validator(mode="after")
    def _can_end(self) -> Self:
        if self.within >= self.timeout:
            limit = format_duration(self.timeout)
            raise ValueError(f"the time limit of {limit} would end it; set a longer timeout")
        return self

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return how long it took, and the start of the body."""
        looks = f"after {output['waited_s']:g} s and {output['looks']} looks"
        return shorten(f"{looks}: {shorten(output['body'])}")
