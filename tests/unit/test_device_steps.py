"""What steps make of readings."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from smartops.drivers.readings import Quality, Reading
from smartops.errors import BadAnswer
from tasks.device import readings_found


def reading(quality: Quality) -> Reading:
    value = None if quality == "bad" else 7
    return Reading(quality, value, "bar", quality, "for a reason", datetime.now(UTC))


@pytest.mark.parametrize(
    ("require", "enough"),
    [
        ("good", {"good"}),
        ("uncertain", {"good", "uncertain"}),
        ("any", {"good", "uncertain", "bad"}),
    ],
)
def test_the_quality_that_is_required(require: Any, enough: set[str]) -> None:
    """What is below it fails the step, and says why; a bad reading never has a value."""
    for quality in ("good", "uncertain", "bad"):
        found = reading(quality)
        if quality in enough:
            output = readings_found("plc", [found], require, keep=False)
            assert output["readings"][quality]["quality"] == quality
            assert output["value"] == found.value
        else:
            with pytest.raises(BadAnswer, match=f"plc: no value for {quality}: {quality}: for a"):
                readings_found("plc", [found], require, keep=False)
