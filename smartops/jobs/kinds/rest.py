"""``rest.request``: one HTTP call to a saved service; ``rest.webhook``: a signed message to one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue

from smartops.jobs.answer_checks import check_jmespath, check_schema
from smartops.jobs.kinds import register
from smartops.jobs.step import StepBase, shorten, suggest

_CREDENTIAL_HEADERS = ("authorization", "proxy-authorization", "cookie", "x-api-key", "api-key")
Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
JmesPath = Annotated[str, AfterValidator(check_jmespath)]
"""An expression of JMESPath, such as ``items[0].id``."""
JsonSchema = Annotated[dict[str, JsonValue] | None, AfterValidator(check_schema)]


def no_credentials(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers. Raises ValueError for one that belongs to the saved service."""
    for name in headers:
        if name.lower() in _CREDENTIAL_HEADERS:
            raise ValueError(f"{name} holds a credential; that belongs to the saved service")
    return headers


SERVICE = Field(
    min_length=1, title="Service", description="Name of the saved Http Service connection."
)
PATH = Field(
    title="Path",
    description="Path below the service's base URL, such as /orders, or a whole URL of the service "
    "or of a host that its connection allows.",
    min_length=1,
)
QUERY: Any = Field(default_factory=dict, title="Query", description="Query parameters.")
HEADERS: Any = Field(
    default_factory=dict,
    title="Headers",
    description="Further headers. Credentials belong to the service, not here.",
)
Headers = Annotated[dict[str, str], AfterValidator(no_credentials)]
EXPECT_STATUS = Field(
    default=(),
    title="Expected status",
    description="Which status codes are a success. Empty: any from 200 to 299.",
)
IDEMPOTENCY_KEY = Field(
    default=False,
    title="Idempotency key",
    description="Send an Idempotency-Key header that stays the same over all attempts. Only "
    "for services that honour it: the step then counts as idempotent.",
)
EXTRACT: Any = Field(
    default_factory=dict,
    title="Extract",
    description="Names and where their values stand in the answer's body, in JMESPath, such as "
    "{first: 'items[0].id'}: they are {{ steps.id.values.first }}. It fails where nothing stands.",
)
EXPECT_SCHEMA = Field(
    default=None,
    title="Expected schema",
    description="A JSON Schema that the answer's body must fit.",
)


def biggest(default: int, limit: int) -> Any:
    """Return the field ``max_bytes``."""
    return Field(
        default=default,
        ge=1,
        le=limit,
        title="Largest answer",
        description="How many bytes an answer may have at the most, unpacked.",
    )


class RestRead(StepBase):
    """What a step has that only reads from a service."""

    service: str = SERVICE
    path: str = PATH
    query: dict[str, Any] = QUERY
    headers: Headers = HEADERS


@register
class RestRequest(StepBase):
    """Call a REST API."""

    model_config = ConfigDict(title="REST request")

    kind: Literal["rest.request"] = "rest.request"
    service: str = SERVICE
    method: Method = Field(default="GET", title="Method", description="The HTTP method.")
    path: str = PATH
    query: dict[str, Any] = QUERY
    headers: Headers = HEADERS
    body: Any = Field(
        default=None,
        title="Body",
        description="What to send. Empty: no body.",
        json_schema_extra={"type": "object"},
    )
    body_format: Literal["json", "form", "text", "multipart"] = Field(
        default="json",
        title="Form of the body",
        description="json; form: names and values as a web form sends them; text; or multipart: "
        "names and texts, or names and {content, filename, type}.",
    )
    expect_status: tuple[int, ...] = EXPECT_STATUS
    expect_headers: dict[str, str] = Field(
        default_factory=dict,
        title="Expected headers",
        description="Headers that the answer must have, and a text that each must contain; empty: "
        "any.",
    )
    expect_schema: JsonSchema = EXPECT_SCHEMA
    extract: dict[str, JmesPath] = EXTRACT
    max_bytes: int = biggest(10_000_000, 100_000_000)
    idempotency_key: bool = IDEMPOTENCY_KEY

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return the status and the start of the body."""
        return shorten(f"{output['status']} {shorten(output['body'])}")


@register
class RestWebhook(StepBase):
    """Send a signed message with an id by which its receiver knows a repetition."""

    model_config = ConfigDict(title="REST webhook")

    kind: Literal["rest.webhook"] = "rest.webhook"
    service: str = Field(
        min_length=1,
        title="Service",
        description="Name of the saved Http Service connection; it needs a signing secret.",
    )
    path: str = Field(
        default="/", min_length=1, title="Path", description="Path below the service's base URL."
    )
    event: str = Field(
        min_length=1,
        max_length=200,
        title="Event",
        description="What happened, such as shift.closed: the `type` of the message.",
        json_schema_extra=suggest(""),
    )
    data: dict[str, JsonValue] = Field(
        default_factory=dict, title="Data", description="The `data` of the message."
    )

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return the id of the message and what was answered."""
        return shorten(f"{output['id']}: {output['status']}")
