"""From a job to the plan of its run: who needs whom, and in which waves steps can start. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from smartops.errors import JobFileError, TemplateError
from smartops.jobs import templating
from smartops.jobs.spec import JobSpec
from smartops.jobs.step import StepBase

RUN_NAMES = ("id", "job")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a job; ``path`` leads to it, as in ``("steps", 2, "needs")``."""

    path: tuple[str | int, ...]
    message: str


@dataclass(frozen=True)
class Plan:
    """What a run of the job will do."""

    job: JobSpec
    needs: dict[str, frozenset[str]]
    """Step id -> the ids of all steps that it directly needs, named or by expression."""
    waves: tuple[tuple[str, ...], ...]
    """Steps that may run at the same time, in order; within a wave, in the order of the file."""

    def step(self, step_id: str) -> StepBase:
        """Return the step of that id."""
        return next(step for step in self.job.steps if step.id == step_id)


class JobProblems(JobFileError):
    """A job that does not compile; ``problems`` has every reason."""

    def __init__(self, job: str, problems: Sequence[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        where = ".".join(str(part) for part in first.path)
        super().__init__(f"job {job}: {where}: {first.message}{more}")
        self.problems = tuple(problems)


def compile(job: JobSpec) -> Plan:  # noqa: A001 - the field's own word for it
    """Return the plan of a job; raise JobProblems with everything that is wrong."""
    problems: list[Problem] = list(_duplicates(job.steps))
    needs: dict[str, frozenset[str]] = {}
    for index, step in enumerate(job.steps):
        found, wrong = _needs_of(job, index, step)
        needs[step.id] = needs.get(step.id, frozenset()) | found
        problems += wrong
    if not problems:
        problems += _cycles(job, needs)
    if problems:
        raise JobProblems(job.name, problems)
    return Plan(job, needs, _waves(job, needs))


def _duplicates(steps: Iterable[StepBase]) -> Iterable[Problem]:
    seen: dict[str, int] = {}
    for index, step in enumerate(steps):
        if step.id in seen:
            text = f"id {step.id!r} is already used by step {seen[step.id] + 1}"
            yield Problem(("steps", index, "id"), text)
        seen.setdefault(step.id, index)


def _needs_of(job: JobSpec, index: int, step: StepBase) -> tuple[frozenset[str], list[Problem]]:
    ids = [other.id for other in job.steps]
    found: set[str] = set()
    problems: list[Problem] = []
    for name in step.needs:
        found.add(name)
        if name not in ids:
            problems.append(Problem(("steps", index, "needs"), _unknown("step", name, ids)))
    for field, value in step.model_dump(include=set(step.own_fields())).items():
        path = ("steps", index, field)
        try:
            pairs = list(templating.references(value))
        except TemplateError as error:
            problems.append(Problem(path, str(error)))
            continue
        for root, name in pairs:
            known = {"steps": ids, "params": list(job.params), "run": list(RUN_NAMES)}[root]
            if name not in known:
                what = {"steps": "step", "params": "parameter", "run": "run value"}[root]
                problems.append(Problem(path, _unknown(what, name, known)))
            elif root == "steps":
                found.add(name)
    return frozenset(found), problems


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
    return f"unknown {what} {name!r}; {hint}"


def _cycles(job: JobSpec, needs: dict[str, frozenset[str]]) -> list[Problem]:
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        circle: list[str] = list(reversed(error.args[1]))
        index = next(i for i, step in enumerate(job.steps) if step.id in circle)
        while circle[0] != job.steps[index].id:
            circle = [*circle[1:], circle[1]]
        text = "needs itself: " + " -> ".join(circle)
        return [Problem(("steps", index, "needs"), text), *_unreachable(job, needs, set(circle))]
    return []


def _unreachable(
    job: JobSpec, needs: dict[str, frozenset[str]], stuck: set[str]
) -> Iterable[Problem]:
    grew = True
    while grew:
        grew = False
        for index, step in enumerate(job.steps):
            waits_for = sorted(needs[step.id] & stuck)
            if step.id not in stuck and waits_for:
                stuck.add(step.id)
                grew = True
                text = f"can never start: it needs {waits_for[0]!r}, which can never end"
                yield Problem(("steps", index, "needs"), text)


def _waves(job: JobSpec, needs: dict[str, frozenset[str]]) -> tuple[tuple[str, ...], ...]:
    order = {step.id: index for index, step in enumerate(job.steps)}
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    waves: list[tuple[str, ...]] = []
    while sorter.is_active():
        ready = tuple(sorted(sorter.get_ready(), key=order.__getitem__))
        waves.append(ready)
        sorter.done(*ready)
    return tuple(waves)
