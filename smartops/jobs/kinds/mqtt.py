"""``mqtt.publish`` and ``mqtt.ask``: messages through a broker. Waiting for one: ``wait``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue, field_validator

from smartops.jobs.kinds import register
from smartops.jobs.step import OptionalDuration, StepBase, shorten, suggest

_BROKER = Field(
    title="Broker",
    description="Name of the saved MQTT Broker connection.",
    min_length=1,
    json_schema_extra=suggest(""),
)
Format = Literal["auto", "json", "text", "hex", "cbor"]
Qos = Literal[0, 1, 2]


class _Sends(StepBase):
    """A step that publishes something."""

    broker: str = _BROKER
    topic: str = Field(
        min_length=1,
        max_length=1000,
        title="Topic",
        description="Where to publish it, such as plant/line-1/speed.",
        json_schema_extra=suggest(""),
    )
    payload: JsonValue = Field(default="", title="Payload", description="What to publish.")
    format: Format = Field(
        default="auto",
        title="Format",
        description="auto: a text as it is, anything else as JSON; json; text; cbor; or hex: bytes "
        "in hexadecimal digits.",
    )
    qos: Qos = Field(
        default=1,
        title="QoS",
        description="0: sent and not acknowledged. 1: it comes at least once. 2: exactly once.",
    )

    @field_validator("topic")
    @classmethod
    def _no_wildcard(cls, topic: str) -> str:
        if "#" in topic or "+" in topic:
            raise ValueError("a message goes to one topic, without # and +")
        return topic


@register
class MqttPublish(_Sends):
    """Publish a message; unsafe, unless the job says otherwise."""

    model_config = ConfigDict(title="MQTT publish")

    kind: Literal["mqtt.publish"] = "mqtt.publish"
    retain: bool = Field(
        default=False,
        title="Retain",
        description="Whether the broker keeps it for those who come later.",
    )
    expiry: OptionalDuration = Field(
        default=None,
        title="Expires after",
        description="How long the broker keeps it for those who are away (MQTT 5).",
        json_schema_extra={"default": ""},
    )

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return the topic and what the broker said."""
        return f"{output['topic']}: {output['said'] or 'sent'}"


@register
class MqttAsk(_Sends):
    """Publish a question and wait for its answer (MQTT 5 request and response)."""

    model_config = ConfigDict(title="MQTT ask")

    kind: Literal["mqtt.ask"] = "mqtt.ask"

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return the answer."""
        return shorten(output["payload"])
