"""``wait``: let time pass, or wait until a tag or a page is as it should be."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from smartops.durations import Duration, duration_field, format_duration
from smartops.jobs.kinds import register
from smartops.jobs.kinds.check import Operator, Scalar
from smartops.jobs.step import OptionalDuration, StepBase, suggest
from smartops.vocabulary import Strict


class TagCondition(Strict):
    """A tag of a Modbus device or an OPC UA server that is to have a value."""

    device: str = Field(
        min_length=1,
        title="Device",
        description="Name of the saved Modbus Device or OPC UA Server connection.",
    )
    tag: str = Field(min_length=1, title="Tag", description="Name from the device's tag map.")
    op: Operator = Field(
        default="==", title="Comparison", description="How it must compare with the value."
    )
    value: Scalar = Field(title="Value", description="The value in the tag's unit.")


class UrlCondition(Strict):
    """A page of a service that is to answer as expected."""

    service: str = Field(
        min_length=1, title="Service", description="Name of the saved Http Service connection."
    )
    path: str = Field(
        min_length=1,
        title="Path",
        description="Path below the service's base URL, such as /health.",
    )
    status: int = Field(
        default=200, ge=100, le=599, title="Status", description="The status that is waited for."
    )
    contains: str = Field(
        default="", title="Contains", description="A text that the answer must contain."
    )


class MessageCondition(Strict):
    """A message that is to come through a broker."""

    broker: str = Field(
        min_length=1, title="Broker", description="Name of the saved MQTT Broker connection."
    )
    topic: str = Field(
        min_length=1,
        title="Topic",
        description="Where it comes, such as plant/+/state: + is any level, # all the rest.",
    )
    field: str = Field(
        default="",
        title="Field",
        description="Which part of a JSON payload is compared, such as state.code; empty: all of "
        "it.",
    )
    op: Operator = Field(
        default="==", title="Comparison", description="How it must compare with the value."
    )
    value: Scalar | None = Field(
        default=None, title="Value", description="What is waited for; empty: any message."
    )
    retained: bool = Field(
        default=False,
        title="Retained",
        description="Whether a message that was there before counts, which the broker has kept.",
    )

    @model_validator(mode="after")
    def _has_an_effect(self) -> Self:
        if self.value is None and (self.op != "==" or self.field):
            raise ValueError("op and field go with a value")
        return self


@register
class Wait(StepBase):
    """Wait for a while, or until something is so; give one of duration, tag, url and message."""

    model_config = ConfigDict(title="Wait")

    kind: Literal["wait"] = "wait"
    duration: OptionalDuration = Field(
        default=None,
        title="Duration",
        description="How long to wait, such as 5s.",
        json_schema_extra=suggest("5s"),
    )
    tag: TagCondition | None = Field(
        default=None, title="Until a tag", description="Wait until a tag has a value."
    )
    url: UrlCondition | None = Field(
        default=None, title="Until a URL", description="Wait until a page answers as expected."
    )
    message: MessageCondition | None = Field(
        default=None, title="Until a message", description="Wait until a message comes."
    )
    every: Duration = duration_field(
        "1s", title="Every", description="With a condition: how often to look."
    )

    @model_validator(mode="after")
    def _can_succeed(self) -> Self:
        ways = (self.duration, self.tag, self.url, self.message)
        if sum(way is not None for way in ways) != 1:
            raise ValueError("give one of duration, tag, url and message")
        if isinstance(self.duration, timedelta) and self.duration >= self.timeout:
            limit = format_duration(self.timeout)
            raise ValueError(f"the time limit of {limit} would end the wait; set a longer timeout")
        looks = self.tag is not None or self.url is not None
        if not looks and "every" in self.changed():
            raise ValueError("every goes with a tag or a url")
        if not self.every:
            raise ValueError("every must be longer than 0s")
        return self

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return how long it waited, and for what."""
        found = f", {output['found']}" if output.get("found") else ""
        return f"waited {output['waited_s']:g} s{found}"
