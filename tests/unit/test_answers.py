"""Whose answers count, and what they and parameters on a command line mean."""

from __future__ import annotations

import pytest

from smartops.errors import BadInput
from smartops.jobs.answers import Answer, check_answer
from smartops.jobs.kinds.approval import Approval
from smartops.jobs.param import Param, from_texts


@pytest.mark.parametrize("person", ["anna", "Anna", " anna  "])
def test_names_are_compared_as_people_write_them(person: str) -> None:
    """A blank or a capital letter makes nobody another person."""
    own = Approval(id="ask", text="Go?", requester_may_approve=False)
    with pytest.raises(BadInput, match="may not approve it too"):
        check_answer(own, Answer(True, person), "anna")
    assert check_answer(own, Answer(True, "bob"), "anna").granted
    named = Approval(id="ask", text="Go?", approvers=("Anna",))
    assert check_answer(named, Answer(True, person), None).granted
    with pytest.raises(BadInput, match="it is up to Anna"):
        check_answer(named, Answer(True, "bob"), None)


def test_texts_become_what_the_parameter_is() -> None:
    """A number that is a text stays one: 007 and 1e3 are codes, where a text is wanted."""
    kinds = {"code": "string", "n": "integer", "x": "number", "on": "boolean"}
    params = {name: Param.model_validate({"type": kind}) for name, kind in kinds.items()}
    given = {"code": "007", "n": "7", "x": "1e3", "on": "true", "other": "5"}
    assert from_texts(params, given) == {
        "code": "007",
        "n": 7,
        "x": 1000.0,
        "on": True,
        "other": "5",
    }
    assert from_texts(params, {"n": "seven", "code": "true"}) == {"n": "seven", "code": "true"}
