"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

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
