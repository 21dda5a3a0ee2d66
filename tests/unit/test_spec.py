from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from smartops.errors import BadInput
from smartops.jobs import loader
from smartops.jobs.param import Param
from smartops.jobs.revision import canonical_job, revision_of
from smartops.jobs.spec import STEP_KINDS, JobSpec
from smartops.jobs.step import Retry
from tests.conftest import ROOT

WAIT = {"id": "a", "kind": "wait", "duration": "1s"}


def make(**fields: object) -> JobSpec:
    return JobSpec.model_validate({"name": "j", "steps": [WAIT], **fields})


@pytest.mark.parametrize("kind", sorted(STEP_KINDS))
def test_every_kind_refuses_unknown_keys(kind: str) -> None:
    """A key that no model knows is an error in every step kind."""
    with pytest.raises(ValidationError) as error:
        STEP_KINDS[kind].model_validate({"id": "a", "kind": kind, "colour": "red"})
    assert any(detail["type"] == "extra_forbidden" for detail in error.value.errors())


@pytest.mark.parametrize("kind", sorted(STEP_KINDS))
def test_every_field_has_a_title_and_a_sentence(kind: str) -> None:
    """They are the labels of the form in the Prefect UI."""
    for name, field in STEP_KINDS[kind].model_fields.items():
        if name != "kind":
            assert field.title, name
            assert field.description, name
            assert field.description.endswith("."), name


def test_delays_grow_to_their_limit() -> None:
    """The waits are delay, delay x backoff, ..., and none is longer than max_delay."""
    fields = {"attempts": 5, "delay": "1s", "backoff": 3, "max_delay": "10s"}
    assert Retry.model_validate({**fields, "jitter": 0}).delays_s() == [1, 3, 9, 10]
    assert max(Retry.model_validate({**fields, "jitter": 1}).delays_s()) * 2 == 10
    assert Retry().delays_s() == []


@pytest.mark.parametrize(
    "bad", [{"attempts": 0}, {"attempts": 51}, {"backoff": 0.5}, {"jitter": 2}]
)
def test_retry_limits(bad: dict[str, float]) -> None:
    """Values that make no sense are refused."""
    with pytest.raises(ValidationError):
        Retry.model_validate(bad)


def test_parameters_are_typed() -> None:
    """Defaults are taken, unknown, missing and wrong ones are refused with a sentence."""
    job = make(
        params={
            "n": {"type": "integer"},
            "line": {"default": "l1"},
            "x": {"type": "number", "default": 1},
        }
    )
    assert job.resolve_params({"n": 3}) == {"n": 3, "line": "l1", "x": 1}
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "needs a value for parameter 'n'"),
        ({"n": "3"}, "is not of type integer"),
        ({"n": True}, "is not of type integer"),
        ({"n": 1, "m": 2}, "has no parameter 'm'"),
    ]
    for given_, said in wrong:
        with pytest.raises(BadInput, match=said):
            job.resolve_params(given_)


@pytest.mark.parametrize(
    ("param", "good", "bad"),
    [
        ({"type": "integer", "minimum": 3}, 3, 2),
        ({"type": "number", "maximum": 2.5}, 2.5, 2.6),
        ({"choices": ["a", "b"]}, "b", "c"),
    ],
)
def test_parameters_have_limits(param: dict[str, Any], good: Any, bad: Any) -> None:
    """A value outside of them is refused before the run begins, and as a default."""
    job = make(params={"n": param})
    assert job.resolve_params({"n": good}) == {"n": good}
    with pytest.raises(BadInput, match="n: "):
        job.resolve_params({"n": bad})
    with pytest.raises(ValidationError):
        Param.model_validate({**param, "default": bad})


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "string", "minimum": 1},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "integer", "choices": ["x"]},
    ],
)
def test_limits_that_make_no_sense(bad: dict[str, Any]) -> None:
    """They are refused when the job is read."""
    with pytest.raises(ValidationError):
        Param.model_validate(bad)


def test_a_default_of_the_wrong_type_is_refused() -> None:
    """The default has to fit the type."""
    with pytest.raises(ValidationError, match="not of type"):
        Param(type="boolean", default="yes")


def test_a_revision_does_not_depend_on_spelling() -> None:
    """Order of keys, defaults written out and units do not make another revision."""
    same = make(description="", params={}, steps=[{**WAIT, "duration": "1000ms", "timeout": "60s"}])
    assert revision_of(same) == revision_of(make())
    assert revision_of(make(description="x")) != revision_of(make())


def test_a_job_survives_its_canonical_json() -> None:
    """The stored text is the job again: same model, same revision."""
    job = loader.load(ROOT / "deployments/jobs/line-check.yaml")
    again = JobSpec.model_validate(json.loads(canonical_job(job)))
    assert revision_of(again) == revision_of(job)
    assert JobSpec.model_validate(job.document()) == job


@given(st.text(max_size=20))
def test_ids_are_names_that_expressions_can_use(text: str) -> None:
    """An id that is accepted can be written after ``steps.``."""
    try:
        job = make(steps=[{**WAIT, "id": text}])
    except ValidationError:
        return
    assert job.steps[0].id.isidentifier()
