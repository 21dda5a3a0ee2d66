"""What happens at the plant and starts jobs: messages, and tags that change.

One file, read by the device bridge: each source has a name, says where it listens, what counts, how
much of it, and which job it starts with which parameters.
"""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from smartops.durations import Duration, duration_field
from smartops.errors import BadInput, TemplateError
from smartops.jobs import templating
from smartops.plain_yaml import plain_value
from smartops.yaml_problems import first_problem

ROOT = "event"
"""What expressions of a source begin with: ``{{ event.payload.order }}``."""
_RATE = re.compile(r"(?P<count>[1-9]\d{0,5})/(?P<unit>second|minute|hour)")
_SHORTEST = timedelta(milliseconds=50)
_UNITS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0}


class Start(BaseModel):
    """The job that an event starts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: str = Field(min_length=1, max_length=100, description="Name of a deployed job.")
    params: dict[str, Any] = Field(
        default_factory=dict,
        description="Its parameters; expressions may use the event: `{{ event.value }}`.",
    )


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="Its name; the runs that it starts say that they were asked for by it.",
    )
    when: str = Field(
        default="",
        description="An expression on the event that must be true for it to count, such as "
        "`{{ event.value > 80 }}`. Empty: everything counts.",
    )
    at_most: str = Field(
        default="10/second",
        description="How many events may count in a second, minute or hour. What comes faster has "
        "to wait: messages in their order, of a tag the latest change with how many it stands for.",
    )
    start: Start | None = Field(
        default=None, description="The job to start. Empty: only Prefect's event is emitted."
    )

    @field_validator("at_most")
    @classmethod
    def _is_a_rate(cls, text: str) -> str:
        if not _RATE.fullmatch(text):
            raise ValueError("a rate looks like 5/second, 100/minute or 20/hour")
        return text

    @model_validator(mode="after")
    def _expressions(self) -> Self:
        texts = [self.when, self.start.params if self.start else {}, getattr(self, "id", "")]
        try:
            list(templating.references(texts, (ROOT,)))
        except TemplateError as error:
            raise ValueError(f"{error}") from None
        if self.when and not templating.is_template(self.when):
            raise ValueError(f"when: {self.when!r} is no expression: write {{{{ ... }}}}")
        given = getattr(self, "id", "")
        if given and not templating.is_template(given):
            raise ValueError(f"id: {given!r} is the same for all: write {{{{ ... }}}}")
        return self

    @property
    def rate(self) -> tuple[int, float]:
        """How many events may count in how many seconds."""
        count, _slash, unit = self.at_most.partition("/")
        return int(count), _UNITS_S[unit]


class MessageSource(_Source):
    """Messages of a topic. The broker keeps them while the bridge is away."""

    kind: Literal["messages"] = "messages"
    broker: str = Field(description="Name of a saved MQTT broker.")
    topic: str = Field(min_length=1, description="The topic; `+` and `#` stand for any.")
    id: str = Field(
        default="",
        description="What makes two messages the same, such as `{{ event.payload.order }}`. Empty: "
        "each message is another one, unless the broker sends it again.",
    )
    retained: bool = Field(
        default=False,
        description="Whether messages that the broker kept for whoever comes later count as well: "
        "each content once.",
    )


class TagSource(_Source):
    """Changes of tags of a device, beyond their deadband; an OPC UA server tells them itself."""

    kind: Literal["tags"] = "tags"
    device: str = Field(description="Name of a saved Modbus device or OPC UA server.")
    tags: list[str] = Field(min_length=1, description="Names from its tag map.")
    every: Duration = duration_field(
        "1s",
        description="How often a device is asked; how often an OPC UA server tells its changes.",
    )
    debounce: Duration = duration_field(
        "0s", description="How long a value has to stand before it counts."
    )
    bad: bool = Field(
        default=False,
        description="Whether it counts as well that a tag's value becomes bad. Its value is empty "
        "then.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.tags)) < len(self.tags):
            raise ValueError("a tag stands there twice")
        if self.every < _SHORTEST:
            raise ValueError("every: not more often than each 50ms")
        return self


Source = Annotated[MessageSource | TagSource, Field(discriminator="kind")]


class SourceFile(BaseModel):
    """All sources of a bridge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: list[Source] = Field(min_length=1, description="What it listens to.")

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [source.name for source in self.sources]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two sources have the name {name!r}")
        return self


def load_sources(path: Path) -> SourceFile:
    """Return the sources of a YAML file. Raises BadInput, naming the file and the place in it."""
    try:
        found = plain_value(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    try:
        return SourceFile.model_validate(found)
    except ValidationError as error:
        raise BadInput(f"{path}: {first_problem(error)}") from None


def counts(source: MessageSource | TagSource, event: dict[str, Any]) -> bool:
    """Return whether an event is one that the source wants. Raises TemplateError."""
    if not source.when:
        return True
    answer = templating.render(source.when, {ROOT: event})
    if not isinstance(answer, bool):
        raise TemplateError(f"{source.when!r} gives {answer!r}, neither true nor false")
    return answer
