"""Takes a run up where it stopped: after a question to a person, or in a new run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import Field

from smartops.audit.progress import Kept, Progress
from smartops.errors import BadInput
from smartops.jobs.answers import Decision
from smartops.jobs.graph import Plan
from smartops.jobs.step import StepId, step_of, undo_id
from smartops.settings import get_settings
from smartops.vocabulary import Strict

if TYPE_CHECKING:
    from smartops.audit.store import Store

ASKED, ANSWERED, AGAIN, ENDED = "asked", "answered", "again", "ended"
USED = "used"
"""What stands in a run's progress beyond the states of steps; USED: for how many seconds it ran."""
STATES = frozenset({"completed", "failed", "unknown_outcome", "skipped"})


class Resume(Strict):
    """Which run is taken up again, and from where."""

    run: UUID = Field(title="Run", description="Id of a run of the same job that has ended.")
    from_step: StepId | None = Field(
        default=None,
        title="From step",
        description="Make this step and all that depends on it again. Empty: what did not succeed.",
    )


def last_of_each(history: Iterable[Kept]) -> dict[str, Kept]:
    """Return how each step stands, by its name on record."""
    found: dict[str, Kept] = {}
    for kept in history:
        if kept.state == AGAIN:
            found.pop(kept.step, None)
        elif kept.state in STATES:
            found[kept.step] = kept
    return found


def last_question(history: Iterable[Kept]) -> Kept | None:
    """Return what a run asked last, None where it has ended since or has asked nothing."""
    last: Kept | None = None
    for kept in history:
        if kept.state == ASKED:
            last = kept
        elif kept.state in {ENDED, ANSWERED, AGAIN}:
            last = None
    return last


def made_again(plan: Plan, kept: Mapping[str, Kept], from_step: str | None) -> set[str]:
    """Return the ids of the steps that a resumed run makes again. Pure.

    Those that did not succeed, or the one to begin from, and all that need one of them. What was
    undone has to be made again too, and steps that are always made are.
    """
    ids = [step.id for step in plan.job.steps]
    if from_step is not None and from_step not in ids:
        raise BadInput(f"job {plan.job.name} has no step {from_step!r}; it has: {', '.join(ids)}")
    again = {step.id for step in plan.job.steps if step.always}
    undone = {step_of(name) for name, k in kept.items() if k.state == "completed"}
    again |= {step_id for step_id in ids if undo_id(step_id) in undone}
    if from_step is not None:
        again.add(from_step)
    for step in plan.job.steps:
        of_step = [k for name, k in kept.items() if step_of(name) == step.id]
        failed = any(k.state not in {"completed", "skipped"} for k in of_step)
        if failed and step.on_failure == "fail":
            again.add(step.id)
    for wave in plan.waves:
        again |= {step_id for step_id in wave if plan.needs[step_id] & again}
    return again


def kept_for(
    plan: Plan,
    history: Iterable[Kept],
    from_step: str | None,
    decided: Mapping[str, Decision],
    *,
    same_params: bool = True,
    run: str = "RUN",
) -> dict[str, Kept]:
    """Return what a resumed run keeps of the ``run`` before it, by name on record.

    What a person has approved was approved for those parameters: with others it is asked again.
    Raises BadInput for a step whose outcome is in doubt and on which nobody has decided.
    """
    last = last_of_each(history)
    for name, kept in list(last.items()):
        if kept.state != "unknown_outcome":
            continue
        decision = decided.get(name)
        if decision is None:
            raise BadInput(
                f"what step {name} did is not known: {kept.error or 'it was broken off'}",
                hint=f"Look, and say what happened: `smartops run decide {run} {name} "
                "done|not-done|retry`.",
            )
        if decision.verdict == "done":
            last[name] = Kept(name, "completed", {}, item=kept.item)
        else:
            del last[name]
    again = made_again(plan, last, from_step)
    undoings = {undo_id(step.id) for step in plan.job.steps}
    tolerated = {step.id for step in plan.job.steps if step.on_failure == "continue"}

    approvals = {step.id for step in plan.job.steps if step.kind == "approval"}

    def stays(name: str, kept: Kept) -> bool:
        step_id = step_of(name)
        if step_id in approvals and not same_params:
            return False
        if step_id in undoings or not (kept.state == "completed" or step_id in tolerated):
            return False
        if step_id not in again:
            return True
        # An item of a list may stay where others of it have failed.
        is_item = name != step_id and kept.state == "completed"
        inputs_stay = step_id != from_step and not plan.needs[step_id] & again
        undone = undo_id(name) in last and last[undo_id(name)].state == "completed"
        return is_item and inputs_stay and not undone

    return {name: kept for name, kept in last.items() if stays(name, kept)}


def load_history(run_id: UUID) -> list[Kept]:
    """Return what a run achieved, from this machine's own notes, else from the record.

    Raises StoreUnavailable; BadInput where the record does not hold an output whole.
    """
    noted = Progress(run_id).load()
    if noted:
        return noted
    from smartops.audit.history import history_on_record  # noqa: PLC0415 - SQLAlchemy is slow

    with _store() as store:
        return history_on_record(store, run_id)


@dataclass(frozen=True)
class Earlier:
    """The run that is taken up again."""

    job: str
    rehearsal: bool
    params: dict[str, Any]
    """As they are on record: secrets are masked."""
    history: list[Kept]
    decided: dict[str, Decision]
    revision: str | None
    """Of the job as it was."""


def load_earlier(run_id: UUID) -> Earlier:
    """Return a run that has ended, with all that is known of it. Raises StoreUnavailable, BadInput.

    Its own notes do not know what was under way when its process died: the record does.
    """
    from smartops.audit import history  # noqa: PLC0415 - SQLAlchemy is slow to import

    with _store() as store:
        run = history.run_on_record(store, run_id)
        doubtful = history.doubtful_steps(store, run_id)
        decided = history.decisions_on_record(store, run_id, doubtful)
        noted = Progress(run_id).load()
        if noted:
            # A process that dies between the record of a step and its note leaves only the record.
            known = {kept.step for kept in noted}
            noted = [*history.completed_on_record(store, run_id, known), *noted]
        else:
            noted = history.history_on_record(store, run_id)
    known_of = [*noted, *doubtful]
    return Earlier(run.job, run.rehearsal, run.params, known_of, decided, run.revision)


@contextmanager
def _store() -> Iterator[Store]:
    """Give the audit store, with what this machine's journals hold shipped to it."""
    from smartops.audit import shipping  # noqa: PLC0415 - SQLAlchemy is slow to import
    from smartops.audit.store import Store  # noqa: PLC0415

    store = Store(get_settings().store_url)
    try:
        shipping.ship_all(store, get_settings().journal_dir)
        yield store
    finally:
        store.close()
