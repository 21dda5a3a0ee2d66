"""Options that several commands share."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

import typer

from smartops.durations import parse_duration
from smartops.errors import BadInput

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def read_params(pairs: list[str], option: str) -> dict[str, Any]:
    """Return ``key=value`` pairs; what a text means depends on the parameter's type."""
    params: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise BadInput(f"{option} {pair}: write a parameter as key=value")
        params[key] = text
    return params


def read_duration(option: str, text: str) -> timedelta:
    """Return the duration that an option gives. Raises BadInput."""
    try:
        found = parse_duration(text)
    except ValueError:
        found = None
    if not isinstance(found, timedelta):
        raise BadInput(f"{option} {text}: write a duration such as 500ms, 30s, 5m or 1h30m")
    return found
