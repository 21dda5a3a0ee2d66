"""From a job to the plan of its run: who needs whom, and in which waves steps can start. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any

from pydantic import ValidationError

from smartops.errors import JobFileError, TemplateError
from smartops.jobs import templating
from smartops.jobs.spec import JobSpec
from smartops.jobs.step import StepBase, undo_id

RUN_NAMES = ("id", "job", "due_at", "environment", "failed", "rehearsal")
"""What ``{{ run.name }}`` knows of the run."""
ITEM_NAMES = ("value", "number")


NOT_FOR_UNDO = frozenset(
    {"needs", "when", "foreach", "max_parallel", "always", "undo", "on_failure"}
)
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a job; ``path`` leads to it, as in ``("steps", 2, "needs")``."""

    path: Path
    message: str


@dataclass(frozen=True)
class Plan:
    """What a run of the job will do."""

    job: JobSpec
    needs: dict[str, frozenset[str]]
    """Step id -> the ids of all steps that it directly needs, named or by expression."""
    uses: dict[str, frozenset[str]]
    """Those of them whose output it uses in an expression: without it, the step cannot be made."""
    waves: tuple[tuple[str, ...], ...]
    """Steps that may run at the same time, in order; within a wave, in the order of the file.

    Steps that are always made come after all others.
    """

    @cached_property
    def steps(self) -> dict[str, StepBase]:
        """The steps by their ids."""
        return {step.id: step for step in self.job.steps}

    @cached_property
    def behind(self) -> dict[str, frozenset[str]]:
        """Step id -> the ids of the steps that directly need it."""
        found: dict[str, set[str]] = {step_id: set() for step_id in self.needs}
        for step_id, needs in self.needs.items():
            for name in needs:
                found[name].add(step_id)
        return {step_id: frozenset(others) for step_id, others in found.items()}

    def step(self, step_id: str) -> StepBase:
        """Return the step of that id."""
        return self.steps[step_id]


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
    uses: dict[str, frozenset[str]] = {}
    names = _Names(job)
    for index, step in enumerate(job.steps):
        used, wrong = _uses_of(names, index, step)
        uses[step.id] = used
        needs[step.id] = used | frozenset(step.needs)
        problems += wrong
        problems += _unknown_needs(names, index, step)
        problems += _undo(names, index, step)
        if step.foreach is None and "max_parallel" in step.changed():
            text = "has no meaning without foreach"
            problems.append(Problem(("steps", index, "max_parallel"), text))
        problems += _needs_of_ends(job, index, step, needs[step.id])
    problems += names.problems(("outputs",), job.outputs, item=False)
    problems += names.problems(("locks",), job.locks, item=False, steps=False)
    if not problems:
        problems += _cycles(job, needs)
    if not problems:
        problems += _unmade_in_undo(names, job, needs)
    if problems:
        raise JobProblems(job.name, problems)
    return Plan(job, needs, uses, _waves(job, needs))


class _Names:
    """What the expressions of a job may name."""

    def __init__(self, job: JobSpec) -> None:
        self.steps = [step.id for step in job.steps]
        self._known = {
            "steps": ("step", self.steps),
            "params": ("parameter", list(job.params)),
            "vars": ("variable", list(job.vars)),
            "run": ("run value", list(RUN_NAMES)),
            "item": ("item value", list(ITEM_NAMES)),
        }

    def look(
        self, path: Path, value: Any, *, item: bool, steps: bool = True
    ) -> tuple[frozenset[str], list[Problem]]:
        """Return the steps that a value names, and what is wrong with its expressions."""
        found: set[str] = set()
        problems: list[Problem] = []
        try:
            pairs = list(templating.references(value))
        except TemplateError as error:
            return frozenset(), [Problem(path, str(error))]
        for root, name in pairs:
            what, known = self._known[root]
            if root == "item" and not item:
                problems.append(Problem(path, "item is only known in a step with foreach"))
            elif root == "steps" and not steps:
                problems.append(Problem(path, "steps are not known yet: it holds from the start"))
            elif name not in known:
                problems.append(Problem(path, _unknown(what, name, known)))
            elif root == "steps":
                found.add(name)
        return frozenset(found), problems

    def look_at_undo(
        self, path: Path, step: StepBase, undo: StepBase
    ) -> tuple[frozenset[str], list[Problem]]:
        """Return the steps that a step's undoing names, and what is wrong with its expressions."""
        fields = {*undo.own_fields(), "locks"}
        return self.look(path, undo.model_dump(include=fields), item=step.foreach is not None)

    def problems(self, path: Path, value: Any, *, item: bool, steps: bool = True) -> list[Problem]:
        """Return what is wrong with a value's expressions."""
        return self.look(path, value, item=item, steps=steps)[1]


def _duplicates(steps: Iterable[StepBase]) -> Iterable[Problem]:
    seen: dict[str, int] = {}
    for index, step in enumerate(steps):
        if step.id in seen:
            text = f"id {step.id!r} is already used by step {seen[step.id] + 1}"
            yield Problem(("steps", index, "id"), text)
        seen.setdefault(step.id, index)


def _uses_of(names: _Names, index: int, step: StepBase) -> tuple[frozenset[str], list[Problem]]:
    found: set[str] = set()
    problems: list[Problem] = []
    fields = {*step.own_fields(), *step.EXPRESSIONS}
    for field, value in step.model_dump(include=fields).items():
        item = step.foreach is not None and field != "foreach"
        used, wrong = names.look(("steps", index, field), value, item=item)
        found |= used
        problems += wrong
    return frozenset(found), problems


def _unknown_needs(names: _Names, index: int, step: StepBase) -> Iterable[Problem]:
    for name in step.needs:
        if name not in names.steps:
            yield Problem(("steps", index, "needs"), _unknown("step", name, names.steps))


def _undo(names: _Names, index: int, step: StepBase) -> Iterable[Problem]:
    """Look at the step that takes this one back: it is a step, and needs and is undone by none."""
    path: Path = ("steps", index, "undo")
    if step.undo is None:
        return
    if "id" in step.undo:
        yield Problem((*path, "id"), f"it has its name already: {undo_id(step.id)}")
    try:
        undo = step.undo_step()
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_context=False):
            where = [part for part in detail["loc"] if part != step.undo.get("kind")]
            text = detail["msg"].removeprefix("Value error, ")
            yield Problem((*path, *where), text)
        return
    assert undo is not None  # noqa: S101 - for the type checker
    if undo.kind == "approval":
        yield Problem((*path, "kind"), "nobody can be asked while a step is undone")
    if undo.id in names.steps:
        yield Problem(path, f"the id {undo.id!r} is that of a step; it names this step's undoing")
    given = undo.changed() & NOT_FOR_UNDO
    for field in sorted(given):
        yield Problem((*path, field), "has no meaning for what undoes a step")
    yield from names.look_at_undo(path, step, undo)[1]


def _unmade_in_undo(
    names: _Names, job: JobSpec, needs: dict[str, frozenset[str]]
) -> Iterable[Problem]:
    """Refuse an undo that uses a step which need not have been made when the own one was."""
    for index, step in enumerate(job.steps):
        undo = step.undo_step()
        if undo is None:
            continue
        made, wave = {step.id}, {step.id}
        while wave := {name for one in wave for name in needs[one]} - made:
            made |= wave
        path: Path = ("steps", index, "undo")
        used, _ = names.look_at_undo(path, step, undo)
        for name in sorted(used - made):
            text = f"uses the output of {name!r}, which need not be there: let the step need it"
            yield Problem(path, text)


def _needs_of_ends(
    job: JobSpec, index: int, step: StepBase, needs: frozenset[str]
) -> Iterable[Problem]:
    """Refuse a step that needs one which is always made: those come last."""
    path: Path = ("steps", index, "needs")
    ends = {other.id for other in job.steps if other.always}
    if not step.always:
        for name in sorted(needs & ends):
            yield Problem(path, f"{name!r} is made at the end, after this step")
    elif step.undo is not None:
        yield Problem(("steps", index, "undo"), "a step that is always made cannot be undone")


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
    ends = {step.id for step in job.steps if step.always}
    waves: list[tuple[str, ...]] = []
    for part in (order.keys() - ends, ends):
        sorter = TopologicalSorter({name: needs[name] & part for name in part})
        sorter.prepare()
        while sorter.is_active():
            ready = tuple(sorted(sorter.get_ready(), key=order.__getitem__))
            waves.append(ready)
            sorter.done(*ready)
    return tuple(waves)
