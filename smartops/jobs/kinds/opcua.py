"""``opcua.read``, ``opcua.write`` and ``opcua.call``: nodes by the names of a tag map, methods."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue

from smartops.jobs.kinds import register
from smartops.jobs.kinds.device import ReadsTags, WritesTag
from smartops.jobs.step import OptionalDuration, StepBase, shorten, suggest

_SERVER = Field(
    title="Server",
    description="Name of the saved OPC UA Server connection.",
    min_length=1,
    json_schema_extra=suggest(""),
)


@register
class OpcUaRead(ReadsTags):
    """Read tags from an OPC UA server."""

    model_config = ConfigDict(title="OPC UA read")

    kind: Literal["opcua.read"] = "opcua.read"
    server: str = _SERVER
    max_age: OptionalDuration = Field(
        default=None,
        title="Oldest value",
        description="How old a value may be, by the time that the server says it is from; an older "
        "one is uncertain.",
        json_schema_extra={"default": ""},
    )


@register
class OpcUaWrite(WritesTag):
    """Write one tag of an OPC UA server, and read it back."""

    model_config = ConfigDict(title="OPC UA write")

    kind: Literal["opcua.write"] = "opcua.write"
    server: str = _SERVER


@register
class OpcUaCall(StepBase):
    """Call a method of an OPC UA server; unsafe, unless the job says otherwise."""

    model_config = ConfigDict(title="OPC UA call")

    kind: Literal["opcua.call"] = "opcua.call"
    server: str = _SERVER
    node: str = Field(
        min_length=3,
        title="Object",
        description="The node of the object, such as nsu=http://example.com/line;s=Line.",
        json_schema_extra=suggest(""),
    )
    method: str = Field(
        min_length=3,
        title="Method",
        description="The node of its method.",
        json_schema_extra=suggest(""),
    )
    args: tuple[JsonValue, ...] = Field(
        default=(), title="Arguments", description="The arguments, in the method's order."
    )

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return what the method gave."""
        return shorten(output["results"])
