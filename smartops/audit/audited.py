"""``@audited``: the one line that puts a Prefect flow of any kind on record."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ParamSpec, TypeVar, cast

from uuid6 import uuid7

from smartops.audit import recording
from smartops.audit.recording import RunInfo
from smartops.audit.run_end import ship_own_records, ship_own_records_async

P = ParamSpec("P")
R = TypeVar("R")


def audited(function: Callable[P, R]) -> Callable[P, R]:
    """Record each call as a run: job name, parameters, state, message, times.

    It goes below ``@flow``, on plain and on async functions::

        @flow
        @audited
        async def close_shift(line: str) -> None: ...

    Outside of a Prefect run the call gets an id of its own, so a plain call is on record too.
    """
    signature = _resolved(function)

    def info(*args: Any, **kwargs: Any) -> RunInfo:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        found = recording.current_run()
        if found is None or not _is_call_of(found, function):
            name = function.__name__
            found = RunInfo(id=uuid7(), job=name.replace("_", "-"), flow=name)
        return replace(found, params=dict(bound.arguments))

    @functools.wraps(function)
    async def in_loop(*args: P.args, **kwargs: P.kwargs) -> Any:
        try:
            with recording.recorded_run(info(*args, **kwargs)):
                return await cast(Any, function(*args, **kwargs))
        finally:
            await ship_own_records_async()

    @functools.wraps(function)
    def plain(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with recording.recorded_run(info(*args, **kwargs)):
                return function(*args, **kwargs)
        finally:
            ship_own_records()

    chosen: Any = in_loop if inspect.iscoroutinefunction(function) else plain
    # Prefect checks parameters by these; as texts it would look their names up in this module.
    chosen.__signature__ = signature
    return cast(Callable[P, R], chosen)


def _resolved(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature with its hints as types, where all their names are known."""
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:  # a name that is imported for type checkers only
        return inspect.signature(function)


def _is_call_of(found: RunInfo, function: Callable[..., Any]) -> bool:
    """Return whether a run is a call of the function, and not one that calls it."""
    if recording.is_recorded(found.id):
        return False
    return found.function is None or inspect.unwrap(found.function) is function
