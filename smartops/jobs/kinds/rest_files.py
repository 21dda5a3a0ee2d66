"""``rest.download`` and ``rest.upload``: files from and to REST services."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from smartops.jobs.answer_checks import check_checksum
from smartops.jobs.kinds import register
from smartops.jobs.kinds.rest import (
    EXPECT_STATUS,
    HEADERS,
    IDEMPOTENCY_KEY,
    PATH,
    QUERY,
    SERVICE,
    Headers,
    RestRead,
    biggest,
)
from smartops.jobs.step import StepBase, shorten, suggest

Checksum = Annotated[str, AfterValidator(check_checksum)]


@register
class RestDownload(RestRead):
    """Fetch a file; it is kept with the run's evidence, and goes on where it was broken off."""

    model_config = ConfigDict(title="REST download")

    kind: Literal["rest.download"] = "rest.download"
    name: str = Field(
        default="",
        max_length=150,
        title="File name",
        description="What to call it; empty: as the last part of the path.",
    )
    checksum: Checksum = Field(
        default="",
        title="Checksum",
        description="What the file must have, such as sha256:9f86…; also sha512, sha1 and md5.",
        json_schema_extra=suggest(""),
    )
    max_bytes: int = biggest(1_000_000_000, 1_000_000_000_000)

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return the name and the size."""
        return shorten(f"{output['name']}: {output['bytes']:,} bytes")


@register
class RestUpload(StepBase):
    """Send a file, which is read while it is sent."""

    model_config = ConfigDict(title="REST upload")

    kind: Literal["rest.upload"] = "rest.upload"
    service: str = SERVICE
    method: Literal["POST", "PUT"] = Field(
        default="POST", title="Method", description="The HTTP method."
    )
    path: str = PATH
    query: dict[str, Any] = QUERY
    headers: Headers = HEADERS
    file: str = Field(
        min_length=1,
        title="File",
        description="Path of a file in the home folder's evidence, such as "
        "{{ steps.fetch.path }}, or in one of SMARTOPS_UPLOADS.",
        json_schema_extra=suggest(""),
    )
    field: str = Field(
        default="file",
        title="Field",
        description="Name of the form field for the file (multipart); empty: the file is the body.",
    )
    fields: dict[str, Any] = Field(
        default_factory=dict, title="Other fields", description="Other fields of the form."
    )
    file_name: str = Field(
        default="", title="File name", description="What to call it; empty: as it is called."
    )
    media_type: str = Field(
        default="application/octet-stream",
        min_length=1,
        title="Media type",
        description="What the file holds, such as text/csv.",
    )
    expect_status: tuple[int, ...] = EXPECT_STATUS
    idempotency_key: bool = IDEMPOTENCY_KEY

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if not self.field and {"fields", "file_name"} & self.changed():
            raise ValueError("fields and file_name go with a field")
        return self

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return the status, the size and the start of the answer."""
        return shorten(f"{output['status']}, {output['bytes']:,} bytes: {shorten(output['body'])}")
