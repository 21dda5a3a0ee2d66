"""``rest.request``: one HTTP call to a saved service."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase, shorten

_CREDENTIAL_HEADERS = ("authorization", "proxy-authorization", "cookie", "x-api-key", "api-key")
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


@register
class RestRequest(StepBase):
    """Call a REST API."""

    model_config = ConfigDict(title="REST request")

    kind: Literal["rest.request"] = "rest.request"
    service: str = Field(
        min_length=1, title="Service", description="Name of the saved Http Service connection."
    )
    method: Method = Field(default="GET", title="Method", description="The HTTP method.")
    path: str = Field(
        title="Path",
        description="Path below the service's base URL, such as /orders.",
        min_length=1,
    )
    query: dict[str, Any] = Field(
        default_factory=dict, title="Query", description="Query parameters."
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        title="Headers",
        description="Further headers. Credentials belong to the service, not here.",
    )
    body: Any = Field(
        default=None,
        title="Body",
        description="What to send, as JSON. Empty: no body.",
        json_schema_extra={"type": "object"},
    )
    expect_status: tuple[int, ...] = Field(
        default=(),
        title="Expected status",
        description="Which status codes are a success. Empty: any from 200 to 299.",
    )
    idempotency_key: bool = Field(
        default=False,
        title="Idempotency key",
        description="Send an Idempotency-Key header that stays the same over all attempts. Only "
        "for services that honour it: the step then counts as idempotent.",
    )

    @field_validator("headers")
    @classmethod
    def _no_credentials(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if name.lower() in _CREDENTIAL_HEADERS:
                raise ValueError(f"{name} holds a credential; that belongs to the saved service")
        return headers

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return the status and the start of the body."""
        return shorten(f"{output['status']} {shorten(output['body'])}")
