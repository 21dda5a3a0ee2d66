"""The job: one model for the YAML file, the form in the Prefect UI, the API and Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field, JsonValue, TypeAdapter, field_validator, model_validator

from smartops.durations import Duration, duration_field
from smartops.errors import BadInput
from smartops.jobs.alerting import Alert
from smartops.jobs.kinds import load_kinds
from smartops.jobs.param import Param, ParamName, fill_in
from smartops.jobs.scheduling import Missed, Overlap, Schedule, SkipOn
from smartops.jobs.step import LockName, StepBase
from smartops.vocabulary import OneTabPerMember, Strict, blank_in_form, without_form_marks

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

EnvironmentName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=64)]
DEFAULT = "default"
"""The environment whose variables hold where an environment has none of its own."""


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
        json_schema_extra=blank_in_form,
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

    outputs: dict[ParamName, JsonValue] = Field(
        default_factory=dict,
        title="Outputs",
        description="What the run gives to whoever asked for it, by name, mostly expressions such "
        "as {{ steps.level.value }}.",
        json_schema_extra=blank_in_form,
    )
    vars: dict[ParamName, dict[EnvironmentName, JsonValue]] = Field(
        default_factory=dict,
        title="Variables",
        description="Values that differ between environments, used as {{ vars.name }}: for each "
        "name a value by environment (SMARTOPS_ENVIRONMENT), and one for default.",
        json_schema_extra=blank_in_form,
    )
    timeout: Duration | None = Field(
        default=None,
        title="Time limit",
        description="The longest that a run may take, waiting for people not counted.",
        json_schema_extra=blank_in_form,
    )
    cleanup: Duration = duration_field(
        "25s",
        title="Time for cleaning up",
        description="The longest that steps which undo others, and steps that are always made, "
        "may take together when a run has failed or is cancelled.",
    )
    locks: tuple[LockName, ...] = Field(
        default=(),
        title="Locks",
        description="What a run holds alone from its first step to its last, such as line-3.",
    )
    schedules: tuple[Schedule, ...] = Field(
        default=(), max_length=50, title="Schedules", description="When the job starts by itself."
    )
    overlap: Overlap = Field(
        default="queue_one",
        title="Overlap",
        description="What happens when a run of a schedule is due while one is under way: skip "
        "it, let one or all wait, cancel the one under way, or allow both.",
    )
    missed: Missed = Field(
        default_factory=Missed,
        title="Missed",
        description="What becomes of runs that could not start when they were due.",
    )
    skip_on: SkipOn = Field(
        default_factory=SkipOn,
        title="Skip on",
        description="Days and times at which no schedule starts the job.",
    )
    alert: Alert = Field(
        default_factory=Alert,
        title="Alert",
        description="What an alert about the job says, and the labels by which it finds its way.",
    )

    @model_validator(mode="before")
    @classmethod
    def _as_filled_in(cls, document: Any) -> Any:
        return without_form_marks([document])[0]

    @field_validator("timeout", "cleanup")
    @classmethod
    def _positive(cls, value: Any) -> Any:
        if value is not None and not value:
            raise ValueError("a time limit must be longer than 0s")
        return value

    @model_validator(mode="after")
    def _schedules_fit(self) -> JobSpec:
        names = [schedule.name for schedule in self.schedules]
        if len(names) > 1 and len(set(names)) < len(names):
            raise ValueError("several schedules: give each a name of its own")
        for schedule in self.schedules:
            try:
                self.resolve_params(schedule.params)
            except BadInput as error:
                where = f"schedule {schedule.name}" if schedule.name else "the schedule"
                raise ValueError(f"{where}: {error}") from None
        return self

    def variables(self, environment: str) -> dict[str, Any]:
        """Return the variables of an environment; raise BadInput for one that has no value."""
        found: dict[str, Any] = {}
        for name, values in self.vars.items():
            if environment not in values and DEFAULT not in values:
                known = ", ".join(sorted(values))
                raise BadInput(
                    f"job {self.name}: variable {name!r} has no value for {environment!r} "
                    f"(it has: {known})",
                    hint="Add one, or one for default; SMARTOPS_ENVIRONMENT names the environment.",
                )
            found[name] = values.get(environment, values.get(DEFAULT))
        return found

    def document(self) -> dict[str, Any]:
        """Return the job as the JSON object that it was written as: what was left out stays out."""
        return self.model_dump(mode="json", exclude_unset=True)

    def canonical(self) -> dict[str, Any]:
        """Return the job without whatever is at its default, so that equal jobs are equal."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def resolve_params(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return all parameters with their values; raise BadInput for a wrong or missing one."""
        return fill_in(self.params, given, f"job {self.name}", "parameter")


_step_adapter: TypeAdapter[StepBase] = TypeAdapter(StepSpec)


def parse_step(document: dict[str, Any]) -> StepBase:
    """Return a step of any kind; raise pydantic's ValidationError."""
    return _step_adapter.validate_python(document)
