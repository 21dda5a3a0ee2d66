"""Checks with sentences: what an ``assert`` step does. Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from smartops.jobs.kinds.check import Check

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class CheckResult:
    """Whether a comparison holds, and the sentence that says so."""

    holds: bool
    sentence: str


def run_checks(checks: Iterable[Check]) -> list[CheckResult]:
    """Return the result of each check, in order. Values of different kinds never compare."""
    return [_run(check) for check in checks]


def _run(check: Check) -> CheckResult:
    try:
        holds = _OPERATORS[check.op](check.left, check.right)
    except TypeError:
        kinds = f"{type(check.left).__name__} and {type(check.right).__name__}"
        return CheckResult(False, _with(check, f"{kinds} cannot be compared with {check.op}"))
    if holds:
        return CheckResult(True, f"{check.left!r} {check.op} {check.right!r}")
    return CheckResult(False, _with(check, f"{check.left!r} is not {check.op} {check.right!r}"))


def _with(check: Check, sentence: str) -> str:
    return f"{check.message}: {sentence}" if check.message else sentence
