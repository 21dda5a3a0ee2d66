from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smartops.jobs import graph
from smartops.jobs.graph import JobProblems
from smartops.jobs.kinds.check import Assert, Check
from smartops.jobs.kinds.wait import Wait
from smartops.jobs.spec import JobSpec
from smartops.jobs.step import StepBase


def wait(step_id: str, *needs: str) -> Wait:
    return Wait.model_validate({"id": step_id, "duration": "1s", "needs": needs})


def job(*steps: StepBase) -> JobSpec:
    return JobSpec(name="j", steps=steps)


def problems(*steps: StepBase) -> dict[str, str]:
    with pytest.raises(JobProblems) as error:
        graph.compile(job(*steps))
    return {".".join(map(str, p.path)): p.message for p in error.value.problems}


def test_steps_without_needs_share_a_wave() -> None:
    """What needs nothing starts at once; what needs others comes a wave later."""
    plan = graph.compile(job(wait("a"), wait("b"), wait("c", "a", "b"), wait("d", "a")))
    assert plan.waves == (("a", "b"), ("c", "d"))


def test_an_expression_is_a_need() -> None:
    """A step whose output an expression uses is needed without being named."""
    check = Assert(id="b", checks=(Check(left="{{ steps.a.waited_s }}", right=1),))
    plan = graph.compile(job(check, wait("a")))
    assert plan.needs == {"a": frozenset(), "b": {"a"}}


def test_a_cycle_is_named_with_what_it_blocks() -> None:
    """The circle is written out, and the steps behind it are said to be unreachable."""
    found = problems(wait("a", "c"), wait("b", "a"), wait("c", "b"), wait("d", "c"))
    assert found["steps.0.needs"] == "needs itself: a -> c -> b -> a"
    assert "can never start" in found["steps.3.needs"]


def test_a_step_that_needs_itself() -> None:
    """The smallest circle."""
    assert problems(wait("a", "a")) == {"steps.0.needs": "needs itself: a -> a"}


def test_an_unknown_need_has_a_suggestion() -> None:
    """A typo is answered with the nearest name."""
    assert problems(wait("level"), wait("b", "levle")) == {
        "steps.1.needs": "unknown step 'levle'; did you mean 'level'?"
    }


def test_unknown_names_in_expressions() -> None:
    """Unknown steps, parameters and run values are found before anything runs."""
    left = "{{ steps.x.y + params.p + run.z }}"
    check = Assert(id="a", checks=(Check(left=left, right=1),))
    with pytest.raises(JobProblems) as error:
        graph.compile(job(check))
    assert len(error.value.problems) == 3


def test_an_id_twice() -> None:
    """Two steps of one name are refused."""
    assert problems(wait("a"), wait("a")) == {"steps.1.id": "id 'a' is already used by step 1"}


@given(st.data())
def test_waves_respect_needs_and_are_as_early_as_can_be(data: st.DataObject) -> None:
    """In any acyclic job each step is in the wave right after the last one that it needs."""
    count = data.draw(st.integers(1, 12))
    names = [f"s{n}" for n in range(count)]
    steps = [
        wait(name, *data.draw(st.sets(st.sampled_from(names[:index]))) if index else ())
        for index, name in enumerate(names)
    ]
    plan = graph.compile(job(*data.draw(st.permutations(steps))))
    wave_of = {name: number for number, wave in enumerate(plan.waves) for name in wave}
    assert sorted(wave_of) == sorted(names)
    for step in steps:
        earliest = max((wave_of[name] for name in step.needs), default=-1) + 1
        assert wave_of[step.id] == earliest


def waits(**fields: object) -> Wait:
    return Wait.model_validate({"id": "a", "duration": "1s", **fields})


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"max_parallel": 3}, "steps.0.max_parallel"),
        ({"undo": {"kind": "wait", "duration": "1s", "id": "x"}}, "steps.0.undo.id"),
        (
            {"undo": {"kind": "wait", "duration": "1s", "on_failure": "continue"}},
            "steps.0.undo.on_failure",
        ),
    ],
)
def test_settings_that_would_have_no_effect(fields: dict[str, object], path: str) -> None:
    """Each is refused, rather than accepted and ignored."""
    assert list(problems(waits(**fields))) == [path]


def test_an_undo_uses_only_what_was_made_before() -> None:
    """Else it would fail just when it is needed."""
    check = {"kind": "assert", "checks": [{"left": "{{ steps.b.waited_s }}", "right": 1}]}
    found = problems(waits(undo=check), wait("b"))
    assert found == {
        "steps.0.undo": "uses the output of 'b', which need not be there: let the step need it"
    }
    graph.compile(job(waits(undo=check, needs=["b"]), wait("b")))
