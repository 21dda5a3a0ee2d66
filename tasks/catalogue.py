"""From a step of a job to the task that does it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

from prefect import Task

from smartops.errors import BadInput
from smartops.jobs import templating
from smartops.jobs.kinds import BUILT_IN, plugin_modules
from smartops.jobs.step import StepBase
from smartops.vocabulary import Effect
from tasks.step import DEFINITIONS, StepDefinition, StepOptions, build_task


@functools.cache
def load() -> dict[str, StepDefinition[..., Any]]:
    """Import all steps, built in and from plugins, and return them by kind.

    Done once: looking for plugins reads the metadata of every installed package.
    """
    for name in BUILT_IN:
        importlib.import_module(f"tasks.{name}")
    for name in plugin_modules():
        importlib.import_module(name)
    return DEFINITIONS


def task_for(
    step: StepBase,
    names: Callable[[], Mapping[str, Any]],
    *,
    name: str | None = None,
    unrecorded_reads: bool = False,
) -> Task[[], Any]:
    """Return the task of a step; ``names`` gives what its expressions may use.

    ``name`` is the step's name on record where that is not its id, as for an item of a list.

    Raises BadInput for a kind that has a model but no task.
    """
    definition = load().get(step.kind)
    if definition is None:
        raise BadInput(f"step kind {step.kind!r} has no task; its plugin is not complete")
    options = StepOptions(
        name=name or step.id,
        retry=step.retry,
        timeout=step.timeout,
        effect=step.effect,
        unrecorded_reads=unrecorded_reads,
        locks=lambda: tuple(templating.render(step.locks, names())),
        prepare=lambda: rendered(step, names()),
    )
    return build_task(definition, options)


def effect_if_skipped(step: StepBase) -> Effect:
    """Return the effect that a step would have had; unsafe where only a run could have told."""
    definition = load().get(step.kind)
    if step.effect is not None or definition is None:
        return step.effect or Effect.UNSAFE
    try:
        return definition.effect_of(step.own_fields())
    except (AttributeError, LookupError):
        return Effect.UNSAFE


def rendered(step: StepBase, names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the step's own fields with every expression evaluated, checked against its model."""
    own = set(step.own_fields())
    given = step.model_dump(include=own, exclude_unset=True)
    if not templating.has_expression(given):
        return step.own_fields()
    try:
        again = type(step).model_validate(
            {**step.model_dump(exclude=own, exclude_unset=True), **templating.render(given, names)}
        )
    except ValueError as error:
        raise BadInput(f"after its expressions were filled in: {error}") from None
    return again.own_fields()
