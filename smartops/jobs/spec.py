"""The job: one model for the YAML file, the form in the Prefect UI, the API and Python."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, JsonValue, model_validator

from smartops.errors import BadInput
from smartops.jobs.kinds import load_kinds
from smartops.jobs.step import StepBase
from smartops.vocabulary import ID_PATTERN, OneTabPerMember, Strict

JOB_NAME_PATTERN = r"^[a-z0-9][a-z0-9-]*$"
STEP_KINDS = load_kinds()

if TYPE_CHECKING:
    StepSpec = StepBase
else:
    StepSpec = Annotated[
        Union[tuple(STEP_KINDS.values())],  # noqa: UP007 - the members are known at run time only
        Field(discriminator="kind"),
        OneTabPerMember(),
    ]

ParamName = Annotated[str, Field(pattern=ID_PATTERN, max_length=64)]
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


class Param(Strict):
    """A value that is given when a run is started."""

    type: Literal["string", "integer", "number", "boolean"] = Field(
        default="string", title="Type", description="What kind of value."
    )
    default: JsonValue = Field(
        default=None, title="Default", description="The value when none is given. Empty: required."
    )
    description: str = Field(default="", title="Description", description="What it is for.")

    @model_validator(mode="after")
    def _default_fits(self) -> Param:
        if self.default is not None:
            self.check("default", self.default)
        return self

    def check(self, name: str, value: object) -> Any:
        """Return the value if it is of the parameter's type; raise ValueError if not."""
        fits = isinstance(value, _PYTHON_TYPES[self.type])
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}: {value!r} is no number that can be used")
        if not fits or (isinstance(value, bool) and self.type != "boolean"):
            raise ValueError(f"{name}: {value!r} is not of type {self.type}")
        return value


class JobSpec(Strict):
    """A job: a small graph of steps."""

    name: str = Field(
        pattern=JOB_NAME_PATTERN,
        max_length=100,
        title="Name",
        description="The job's name: small letters, digits and hyphens.",
    )
    description: str = Field(
        default="", title="Description", description="What the job is for, in a sentence."
    )
    params: dict[ParamName, Param] = Field(
        default_factory=dict,
        title="Parameters",
        description="Values given at the start of a run, used as {{ params.name }}.",
    )
    read_when_journal_full: bool = Field(
        default=False,
        title="Read when the journal is full",
        description="Let steps that only read go on, off the record, when the journal can take no "
        "more. Steps with an effect never start then.",
    )
    steps: tuple[StepSpec, ...] = Field(
        min_length=1,
        max_length=1000,
        title="Steps",
        description="What to do. Steps run in parallel unless one needs another.",
    )

    def document(self) -> dict[str, Any]:
        """Return the job as the JSON object that it was written as: what was left out stays out."""
        return self.model_dump(mode="json", exclude_unset=True)

    def canonical(self) -> dict[str, Any]:
        """Return the job without whatever is at its default, so that equal jobs are equal."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def resolve_params(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return all parameters with their values; raise BadInput for a wrong or missing one."""
        if unknown := sorted(set(given) - set(self.params)):
            known = ", ".join(self.params) or "none"
            raise BadInput(f"job {self.name} has no parameter {unknown[0]!r} (it has: {known})")
        values: dict[str, Any] = {}
        for name, param in self.params.items():
            value = given.get(name, param.default)
            if value is None:
                raise BadInput(f"job {self.name} needs a value for parameter {name!r}")
            try:
                values[name] = param.check(name, value)
            except ValueError as error:
                raise BadInput(f"job {self.name}: parameter {error}") from None
        return values
