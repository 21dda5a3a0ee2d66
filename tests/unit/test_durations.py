from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from smartops.durations import Duration, format_duration, parse_duration

duration = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("5s", 5),
        ("2m", 120),
        ("1h30m", 5400),
        ("1d", 86400),
        (2.5, 2.5),
        ("PT5S", 5),
    ],
)
def test_reads_what_people_write(text: object, seconds: float) -> None:
    """Texts with units, numbers of seconds and ISO 8601 are durations."""
    assert duration.validate_python(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["5", "5 seconds", "soon", "", "-5s", "5s later", True, -1])
def test_refuses_what_could_be_misread(text: object) -> None:
    """A bare number in quotes, words and negative times are refused."""
    with pytest.raises(ValidationError):
        duration.validate_python(text)


@given(st.integers(min_value=0, max_value=10**10))
def test_format_and_parse_are_inverse(milliseconds: int) -> None:
    """What is written out reads back as the same duration."""
    value = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(value)) == value
