"""What every step has, whatever its kind."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    WithJsonSchema,
    field_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from smartops.durations import Duration, duration_field
from smartops.errors import error_names
from smartops.vocabulary import ID_PATTERN, Effect, Strict

StepId = Annotated[str, Field(pattern=ID_PATTERN, max_length=64)]


def _has_braces(text: str) -> str:
    if "{{" not in text:
        raise ValueError("a value is wanted, or an expression such as {{ params.name }}")
    return text


Expression = Annotated[str, AfterValidator(_has_braces)]
"""An expression where a value of another type is wanted; it is checked when it has its value."""
OptionalDuration = Annotated[
    Duration | Expression | None,
    WithJsonSchema({"type": "string", "examples": ["500ms", "5s", "1h30m"]}),
]
LockName = Annotated[str, Field(min_length=1, max_length=200)]
UNDO = "undo_"


def undo_id(step_id: str) -> str:
    """Return the name on record of the step that takes another back."""
    return f"{UNDO}{step_id}"


def item_name(step_id: str, number: int) -> str:
    """Return the name on record of one item of a step with a list: ``read[2]``."""
    return f"{step_id}[{number}]"


def step_of(name: str) -> str:
    """Return the id of the step that a name on record belongs to: ``read`` for ``read[2]``."""
    return name.partition("[")[0]


def suggest(value: JsonValue) -> dict[str, JsonValue]:
    """Return the schema extra that fills a field of the form without making it optional.

    Prefect's form takes a step for the kind that has most of its keys, and forgets the tab that was
    chosen when several have as many. So each kind needs a key of its own that the form fills in.
    """
    return {"default": value}


def shorten(value: Any, width: int = 100) -> str:
    """Return a value as one short line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 1]}…"


class Retry(Strict):
    """When and how often a failed step is tried again."""

    attempts: int = Field(
        default=1,
        ge=1,
        le=50,
        title="Attempts",
        description="How often to try, the first included.",
    )
    delay: Duration = duration_field(
        "1s",
        title="Delay",
        description="The wait before the second attempt.",
    )
    backoff: float = Field(
        default=2.0,
        ge=1,
        le=10,
        title="Backoff",
        description="Each further wait is this many times the one before; 1 keeps it constant.",
    )
    max_delay: Duration = duration_field(
        "1m", title="Longest delay", description="No wait is longer."
    )
    jitter: float = Field(
        default=0.1,
        ge=0,
        le=1,
        title="Jitter",
        description="How far each wait is varied at random, as a part of it, so that many jobs "
        "do not come back in step.",
    )
    on: tuple[str, ...] = Field(
        default=("TransientError",),
        min_length=1,
        title="On",
        description="Which errors to try again on, by class name (see the error reference).",
    )

    @field_validator("on")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in error_names():
                raise ValueError(
                    f"{name!r} is no error that may be retried; see the error reference"
                )
        return names

    def delays_s(self) -> list[float]:
        """Return the wait before each further attempt, in seconds, before jitter."""
        waits = range(self.attempts - 1)
        longest = self.max_delay.total_seconds() / (1 + self.jitter)  # jitter is added to this
        return [min(self.delay.total_seconds() * self.backoff**n, longest) for n in waits]


class StepBase(Strict):
    """The part that all step kinds share. A kind adds ``kind`` and its own fields."""

    COMMON: ClassVar[tuple[str, ...]] = (
        "id",
        "kind",
        "needs",
        "when",
        "foreach",
        "max_parallel",
        "always",
        "undo",
        "on_failure",
        "locks",
        "retry",
        "timeout",
        "effect",
    )
    EXPRESSIONS: ClassVar[tuple[str, ...]] = ("when", "foreach", "locks")
    """Those of the common fields that may hold expressions."""

    kind: str
    id: StepId = Field(
        title="Id",
        description="The step's name within the job: small letters, digits and underscores.",
    )
    needs: tuple[StepId, ...] = Field(
        default=(),
        title="Needs",
        description="Steps that must have succeeded before. A step whose output an expression "
        "uses is needed without being named here.",
    )
    when: str = Field(
        default="",
        max_length=1000,
        title="When",
        description="An expression, such as {{ steps.level.value > 10 }}; the step is skipped "
        "unless it is true. Steps that only need it by name go on without it.",
    )
    foreach: str | tuple[JsonValue, ...] | None = Field(
        default=None,
        title="For each",
        description="A list, or an expression that gives one. The step is made once for each of "
        "its values, as {{ item.value }} with {{ item.number }} from 0; its output has the items' "
        "outputs in the order of the list, as {{ steps.id.items }}.",
    )
    max_parallel: int = Field(
        default=10,
        ge=1,
        le=100,
        title="In parallel",
        description="With a list: how many of its values are worked on at the same time.",
    )
    always: bool = Field(
        default=False,
        title="Always",
        description="Do it at the end, whatever became of the other steps, also when the run is "
        "cancelled.",
    )
    undo: dict[str, JsonValue] | None = Field(
        default=None,
        title="Undo",
        description="A step (kind and its fields) that takes this one back. It is made when a "
        "later step fails or the run is cancelled, the last step's first.",
    )
    on_failure: Literal["fail", "continue"] = Field(
        default="fail",
        title="On failure",
        description="What its failure means: the run fails, or goes on as if the step were not "
        "there. Steps that use its output are skipped in any case.",
    )
    locks: tuple[LockName, ...] = Field(
        default=(),
        title="Locks",
        description="What no other step of any job may hold meanwhile, beyond the thing that the "
        "step touches, such as line-3.",
    )
    retry: Retry = Field(default_factory=Retry, title="Retry", description="When to try again.")
    timeout: Duration = duration_field(
        "1m",
        title="Time limit",
        description="The longest that one attempt may take, such as 30s or 5m.",
    )
    effect: Effect | None = Field(
        default=None,
        title="Effect",
        description="What making the same call twice would do: nothing to the world (read), the "
        "same end (idempotent), or harm (unsafe). Empty: what the step kind says.",
    )

    @field_validator("timeout")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if not value:
            raise ValueError("a time limit must be longer than 0s")
        return value

    @field_validator("when")
    @classmethod
    def _expression(cls, text: str) -> str:
        """Take the text of an expression with or without its braces."""
        text = text.strip()
        return text if not text or "{{" in text else f"{{{{ {text} }}}}"

    @field_validator("foreach")
    @classmethod
    def _list_or_expression(cls, value: Any) -> Any:
        if isinstance(value, str) and "{{" not in value:
            raise ValueError("a list is wanted, or an expression such as {{ steps.orders.items }}")
        return value

    def changed(self) -> set[str]:
        """Return the names of the fields that are not at their defaults.

        The form in Prefect's UI sends every field, so that one was given means nothing.
        """
        fields = type(self).model_fields
        return {
            name
            for name, field in fields.items()
            if getattr(self, name) != field.get_default(call_default_factory=True)
        }

    def undo_step(self) -> StepBase | None:
        """Return the step that takes this one back, None where nothing does.

        Raises pydantic's ValidationError when what stands in ``undo`` is no step.
        """
        if self.undo is None:
            return None
        from smartops.jobs.spec import parse_step  # noqa: PLC0415 - the kinds are built upon this

        return parse_step({**self.undo, "id": undo_id(self.id)})

    @classmethod
    def summary(cls, output: Any) -> str:
        """Return what the step's output says, in a few words for a table or a log line."""
        return shorten(output)

    @classmethod
    def brief(cls, output: Any) -> str:
        """Return the summary, or the start of an output that is not as the kind expects it."""
        try:
            return cls.summary(output)
        except (LookupError, TypeError, AttributeError, ValueError):
            return shorten(output)  # cut in the audit for its length, or from another version

    def own_fields(self) -> dict[str, Any]:
        """Return the fields that the kind adds, as they were given."""
        names = type(self).model_fields
        return {name: getattr(self, name) for name in names if name not in self.COMMON}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Put the kind's own fields right after the id: the order of the schema is the form's."""
        json_schema = handler(schema)
        properties = json_schema.get("properties")
        if properties and "id" in properties:
            tail = [n for n in cls.COMMON if n not in {"id", "kind"} and n in properties]
            first = ["id", *(n for n in properties if n not in cls.COMMON)]
            json_schema["properties"] = {n: properties[n] for n in [*first, *tail, "kind"]}
        return json_schema
