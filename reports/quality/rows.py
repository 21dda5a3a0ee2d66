"""Rows to check, from what steps give: lists, readings by tag, readings of several reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from smartops.errors import BadInput

MOST_ROWS = 1_000_000
"""What fits into a process of a few hundred megabytes."""


def rows_of(given: Any) -> list[dict[str, Any]]:
    """Return the rows of a step's output, as it may be written in a job.

    A list of objects is taken as it is. Readings by tag (``steps.read.readings``) become a row for
    each tag; of a list of outputs that have readings (``steps.read.items``) each row has ``item``,
    the place of its output in the list. Raises BadInput.
    """
    found = list(_rows(given))
    if len(found) > MOST_ROWS:
        raise BadInput(f"{len(found):,} rows are too many to check at once ({MOST_ROWS:,})")
    return found


def _rows(given: Any) -> Iterator[dict[str, Any]]:
    if isinstance(given, Mapping):
        given = given.get("readings", given)
        if not all(isinstance(value, Mapping) for value in given.values()):
            raise BadInput("rows: an object is wanted for each row, as `steps.read.readings` has")
        for name, value in given.items():
            yield {"tag": name, **value}
        return
    if not isinstance(given, (list, tuple)):
        raise BadInput(f"rows: a list is wanted, and this is a {type(given).__name__}")
    for number, value in enumerate(given):
        if not isinstance(value, Mapping):
            raise BadInput(f"rows: row {number} is a {type(value).__name__}, and no object")
        if isinstance(value.get("readings"), Mapping):
            for row in _rows(value):
                yield {"item": number, **row}
        else:
            yield {str(name): item for name, item in value.items()}
