"""Calling functions of one's own: which may be called, and what their errors mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from smartops import errors
from smartops.errors import BadInput, FunctionFailed, SmartOpsError
from smartops.settings import get_settings

CHILD = "smartops.jobs.python_child"
"""The module that a process for a call runs."""


def check_allowed(function: str) -> None:
    """Raise BadInput for a function of a package that the settings do not allow."""
    package = function.partition(":")[0].partition(".")[0]
    allowed = get_settings().allowed_packages
    if package not in allowed:
        known = ", ".join(allowed) or "none"
        raise BadInput(
            f"functions of package {package!r} may not be called (allowed: {known})",
            hint="Name it in SMARTOPS_PYTHON_PACKAGES on the worker.",
        )


def error_of(function: str, answer: Mapping[str, Any]) -> SmartOpsError:
    """Return the error that the function raised, where it is one of ours."""
    for name in answer.get("mro", [answer["class"]]):
        found = getattr(errors, name, None)
        if isinstance(found, type) and issubclass(found, SmartOpsError):
            return found(f"{function}: {answer['error']}")
    return FunctionFailed(f"{function} raised {answer['class']}: {answer['error']}")
