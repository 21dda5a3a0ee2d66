"""What a run that is taken up again makes, and what it keeps."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
from uuid6 import uuid7

from flows.taking_up import (
    AGAIN,
    ANSWERED,
    ASKED,
    ENDED,
    kept_for,
    last_of_each,
    last_question,
    made_again,
)
from smartops.audit.progress import Kept, Progress, clear_old
from smartops.errors import BadInput
from smartops.jobs import graph
from smartops.jobs.answers import Decision
from smartops.jobs.graph import Plan
from smartops.jobs.spec import JobSpec
from smartops.settings import get_settings


def plan(*steps: dict[str, Any]) -> Plan:
    full = [{"kind": "wait", "duration": "1s", **step} for step in steps]
    return graph.compile(JobSpec.model_validate({"name": "j", "steps": full}))


def done(*names: str) -> list[Kept]:
    return [Kept(name, "completed", {"of": name}) for name in names]


CHAIN = plan({"id": "a"}, {"id": "b", "needs": ["a"]}, {"id": "c", "needs": ["b"]}, {"id": "d"})


def kept(history: list[Kept], from_step: str | None = None, job: Plan = CHAIN) -> set[str]:
    return set(kept_for(job, history, from_step, {}))


def test_only_what_failed_and_what_depends_on_it() -> None:
    """What succeeded stays; the failed step and those behind it are made again."""
    assert kept([*done("a", "d"), Kept("b", "failed", error="x")]) == {"a", "d"}
    assert kept(done("a")) == {"a"}
    assert kept(done("a", "b", "c", "d"), "b") == {"a", "d"}
    with pytest.raises(BadInput, match="no step 'e'"):
        kept(done("a"), "e")


def test_what_was_undone_is_made_again() -> None:
    """A step that was taken back, and what needs it."""
    undone = [*done("a", "b", "d", "undo_b"), Kept("c", "failed", error="x")]
    assert kept(undone) == {"a", "d"}


def test_steps_for_the_end_are_always_made_again() -> None:
    """They belong to the end of each run."""
    job = plan({"id": "a"}, {"id": "end", "always": True})
    assert kept([*done("end"), Kept("a", "failed", error="x")], job=job) == set()


def test_items_of_a_list_stay() -> None:
    """Only the items that failed are made again; all, when what they come from is."""
    job = plan({"id": "a"}, {"id": "each", "needs": ["a"], "foreach": [1, 2]})
    history = [*done("a"), Kept("each[0]", "completed", item=1), Kept("each[1]", "failed", item=2)]
    assert kept(history, job=job) == {"a", "each[0]"}
    assert kept(history, "a", job=job) == set()
    assert kept(history, "each", job=job) == {"a"}
    assert kept([*history, *done("undo_each[0]")], job=job) == {"a"}


def test_what_was_skipped_is_no_failure() -> None:
    """A step whose condition was not true has stopped nothing."""
    job = plan({"id": "b", "when": "false"}, {"id": "c", "needs": ["b"]}, {"id": "d"})
    history = [Kept("b", "skipped"), *done("c"), Kept("d", "failed", error="x")]
    assert kept(history, job=job) == {"c"}
    assert kept(history[1:], job=job) == {"c"}


def test_a_failed_undo_has_taken_nothing_back() -> None:
    """The effect of the item stands, so that it is not made again."""
    job = plan({"id": "each", "foreach": [1, 2]})
    history = [
        Kept("each[0]", "completed", item=1),
        Kept("each[1]", "failed", item=2),
        Kept("undo_each[0]", "failed", error="away"),
    ]
    assert kept(history, job=job) == {"each[0]"}


def test_an_allowed_failure_stays_as_it_is() -> None:
    """It has not stopped the run, so it is no reason to make it again."""
    job = plan({"id": "a", "on_failure": "continue"}, {"id": "b", "needs": ["a"]}, {"id": "c"})
    history = [Kept("a", "failed", error="x"), *done("b"), Kept("c", "failed", error="y")]
    assert kept(history, job=job) == {"a", "b"}


@pytest.mark.parametrize(
    ("verdict", "stays"), [("done", {"a", "b"}), ("not-done", {"a"}), ("retry", {"a"})]
)
def test_decisions(verdict: Any, stays: set[str]) -> None:
    """What is in doubt is kept or made again as a person says, and not without that."""
    history = [*done("a"), Kept("b", "unknown_outcome", error="lost")]
    assert set(kept_for(CHAIN, history, None, {"b": Decision(verdict, "ann")})) == stays
    with pytest.raises(BadInput, match="what step b did is not known: lost"):
        kept_for(CHAIN, history, None, {})


def test_what_cannot_be_taken_up_is_refused_with_a_way_out() -> None:
    """The command to type names the run; what is no step is answered with those that there are."""
    job = plan({"id": "a", "undo": {"kind": "wait", "duration": "1s"}}, {"id": "b"})
    for name in ("b", "undo_a"):  # what took a step back may be in doubt as well
        history = [*done("a"), Kept(name, "unknown_outcome", error="lost")]
        with pytest.raises(BadInput) as found:
            kept_for(job, history, None, {}, run="1a2b3c4d")
        assert f"smartops run decide 1a2b3c4d {name} done|not-done|retry" in str(found.value.hint)
    with pytest.raises(BadInput, match="has no step 'c'; it has: a, b"):
        kept_for(job, done("a"), "c", {})


def test_everything_that_needs_it_is_made_again() -> None:
    """However far behind it stands."""
    assert made_again(CHAIN, last_of_each(done("a", "b", "c", "d")), "a") == {"a", "b", "c"}


def test_a_question_is_open_until_the_run_ends() -> None:
    """Prefect's "retry" of a run that has ended is told from the answer to a question."""
    asked = Kept("ask", ASKED)
    assert last_question([asked]) == asked
    assert last_question([asked, Kept("", ENDED)]) is None
    assert last_question([asked, Kept("ask", ANSWERED)]) is None, "killed after the answer"
    assert last_question(done("a")) is None
    assert last_of_each([*done("a"), Kept("a", AGAIN)]) == {}


def test_notes_survive_a_torn_line(home: object) -> None:
    """A process that was killed while it wrote loses that line, and nothing else."""
    run = uuid7()
    notes = Progress(run)
    notes.keep(Kept("a", "completed", {"text": "ä\n", "n": 1.5}))
    path = notes._path
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes() + b'{"step": "b", "sta')
    notes.keep(Kept("c", "completed"))
    found = [(k.step, k.output) for k in Progress(run).load()]
    assert found == [("a", {"text": "ä\n", "n": 1.5}), ("c", None)]
    notes.forget()
    assert Progress(run).load() == []


def test_old_notes_are_cleared_away(home: object) -> None:
    """What nobody has taken up for long is deleted; the rest stays."""
    old, new = uuid7(), uuid7()
    for run in (old, new):
        Progress(run).keep(Kept("a", "completed"))
    os.utime(Progress(old)._path, (0, 0))
    assert clear_old(get_settings().progress_dir, timedelta(days=30)) == 1
    assert Progress(old).load() == []
    assert len(Progress(new).load()) == 1


ASKS = graph.compile(
    JobSpec.model_validate(
        {
            "name": "j",
            "steps": [
                {"id": "ask", "kind": "approval", "text": "Go?"},
                {"id": "one", "kind": "wait", "duration": "1s", "needs": ["ask"]},
                {"id": "two", "kind": "wait", "duration": "1s", "needs": ["one"]},
            ],
        }
    )
)


def test_what_was_approved_was_approved_for_those_values() -> None:
    """With other parameters a person is asked again; what was made stays made."""
    history = [*done("ask", "one"), Kept("two", "failed", error="x")]
    assert set(kept_for(ASKS, history, None, {})) == {"ask", "one"}
    assert set(kept_for(ASKS, history, None, {}, same_params=False)) == {"one"}
