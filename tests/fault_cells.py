"""The cells of a fault matrix: what an operation comes to under a fault, run side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager

from uuid6 import uuid7

from scripts.fault_table import Matrix
from smartops import errors
from smartops.audit import recording
from smartops.audit.recording import RunInfo, StepRecord
from smartops.vocabulary import Effect

Cell = tuple[str, str]
"""A fault and a column."""
Ends = dict[Cell, str | BaseException]


def cells(matrix: Matrix) -> list[Cell]:
    """Return the cells of a matrix that say something."""
    return [
        (fault.name, column)
        for fault in matrix.faults
        for column, end in zip(matrix.columns, fault.ends, strict=True)
        if end
    ]


async def all_of(run: Callable[[str, str], Awaitable[str]], wanted: Iterable[Cell]) -> Ends:
    """Run cells side by side; return the end of each, or what it failed with."""
    named = list(wanted)
    found = await asyncio.gather(*(run(*cell) for cell in named), return_exceptions=True)
    return dict(zip(named, found, strict=True))


def check(matrix: Matrix, ends: Ends, cell: Cell) -> None:
    """Compare a cell's end with what the table says."""
    found = ends[cell]
    if isinstance(found, BaseException):
        raise found
    wanted = matrix.end(*cell)
    assert found in wanted.split(" or "), f"{cell}: {found}, not {wanted}"


async def ended(work: Awaitable[str], limit_s: float) -> str:
    """Return how a call ends: what it gives, or the name of its error. It has to end in time.

    A limit of the caller's own, which ends a call that waits for somebody else, is "time limit".
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        end = await work
    except errors.SmartOpsError as error:
        end = type(error).__name__
    except TimeoutError:
        end = "time limit"
    took_s = loop.time() - began
    assert took_s < limit_s, f"{end} only after {took_s:.1f} s"
    return end


@contextmanager
def in_a_step(effect: Effect) -> Iterator[StepRecord]:
    """Be a step with an effect, and give its record."""
    info = RunInfo(id=uuid7(), job="j", flow="j")
    record = StepRecord(info, step="s", kind="k", effect=effect, attempt=1, inputs={})
    token = recording.current_step.set(record)
    try:
        yield record
    finally:
        recording.current_step.reset(token)
