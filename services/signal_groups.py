"""Lets Prefect's engine know the signal that cancels a run, wherever in its start that finds it.

Where it comes while a group of tasks is under way, as when a connection is made, it arrives as a
group of exceptions. The engine takes that for a crash then: a cancelled run was crashed for a
moment, and whoever is told of crashes was told of it.
"""

from __future__ import annotations

from prefect import flow_engine
from prefect.exceptions import TerminationSignal


def know_signals_in_groups() -> None:
    """Put this in place for the runs of this process."""
    known = flow_engine._is_async_runtime_cancellation

    def is_cancellation(exc: BaseException) -> bool:
        return known(exc) or is_signal(exc)

    flow_engine._is_async_runtime_cancellation = is_cancellation


def is_signal(error: BaseException) -> bool:
    """Return whether an error is a group of nothing but the signal that ends a run."""
    if not isinstance(error, BaseExceptionGroup):
        return False
    return error.split(TerminationSignal)[1] is None
