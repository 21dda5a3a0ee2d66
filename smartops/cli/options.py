"""Options that several commands share."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from smartops.errors import BadInput

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


def read_params(pairs: list[str], option: str) -> dict[str, Any]:
    """Return ``key=value`` pairs as values: JSON where it is some, else the text."""
    params: dict[str, Any] = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise BadInput(f"{option} {pair}: write a parameter as key=value")
        try:
            params[key] = json.loads(text)
        except ValueError:
            params[key] = text
    return params
