"""Starts a run in Prefect, shows it live, and ends with its record."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from rich.console import Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from reports.rehearsals import Rehearsal, compare
from reports.runs import RunDetail, get_run
from services.following import News, follow
from services.submitting import submit
from smartops.cli.connection import audit_store
from smartops.cli.output import err, first_line, out, print_json, say, state_text
from smartops.cli.runs import print_run
from smartops.errors import BadInput, StoreUnavailable
from smartops.jobs import graph

if TYPE_CHECKING:
    from services.stack import Stack
    from smartops.jobs.spec import JobSpec

_RECORD_LIMIT_S = 15.0
_SAID_BY_STATES = ("Finished in state", "Beginning flow run")
_WORKER_LOGS = ("prefect.flow_runs.worker", "prefect.workers")
_OVER = ("Completed", "Failed", "Crashed", "Cancelled", "TimedOut")


async def run_and_report(
    job: str,
    spec: JobSpec | None,
    params: dict[str, Any],
    *,
    wait: bool,
    as_json: bool,
    rehearse: bool = False,
) -> int:
    """Start the run; return 0 when it was started or, with ``wait``, has completed, else 1."""
    run_id, started = await submit(job, spec, params, rehearse=rehearse)
    return await report_on(run_id, started, wait=wait, as_json=as_json)


async def report_on(run_id: UUID, started: JobSpec, *, wait: bool, as_json: bool) -> int:
    """Tell of a run that was just started; with ``wait``, follow it to its end."""
    if not wait:
        if as_json:
            print_json({"run_id": str(run_id), "job": started.name, "state": "scheduled"})
        else:
            sys.stdout.write(f"{run_id}\n")
        return 0
    say(f"run {run_id} is started; it goes on if you interrupt this")
    await show_live(run_id, started)
    detail = await asyncio.to_thread(record_of, run_id)
    rehearsed = await asyncio.to_thread(_rehearsed, detail) if detail.run.rehearsal else None
    if as_json:
        shown = {"rehearsal": rehearsed.as_json()} if rehearsed else {}
        print_json({**detail.as_json(), **shown})
    else:
        print_run(detail)
        if rehearsed:
            _print_rehearsal(rehearsed)
    return 0 if detail.run.state == "completed" else 1


def _rehearsed(detail: RunDetail) -> Rehearsal:
    with audit_store() as store:
        return compare(store, detail)


def _print_rehearsal(rehearsed: Rehearsal) -> None:
    """Print what a rehearsal would have done, and how that differs from the last real run."""
    out.print()
    out.print(Text("would have done", style="bold"))
    for effect in rehearsed.effects:
        out.print(Text(f"  {effect}"))
    if not rehearsed.effects:
        out.print("  nothing but reading")
    if rehearsed.real_run is None:
        out.print("there is no real run to compare it with")
        return
    out.print(Text(f"beside run {str(rehearsed.real_run)[:8]}", style="bold"))
    for line in rehearsed.difference or ["  no difference"]:
        out.print(Text(line))


async def first_run(job: str, spec: JobSpec | None, running: Stack) -> int:
    """Start a run and follow it to its record; return 0 when it has completed, else 1."""
    say(f"job {job}: starting a run")
    run_id, started = await submit(job, spec, {})
    say(f"run {run_id}: {running.ui_url}/v2/runs/flow-run/{run_id}")
    await show_live(run_id, started)
    detail = await asyncio.to_thread(record_of, run_id)
    out.print()
    print_run(detail)
    out.print()
    _print_where(detail)
    return 0 if detail.run.state == "completed" else 1


def _print_where(detail: RunDetail) -> None:
    """Print where the evidence and the record of a run are."""
    for step in detail.steps:
        output = step.output if isinstance(step.output, dict) else {}
        for picture in output.get("screenshots", ()):
            out.print(Text(f"screenshot   {picture['path']}"))
    with audit_store() as store:
        rows = f"{detail.events} events, {len(detail.steps)} steps, {len(detail.commands)} commands"
        out.print(Text(f"audit        {rows} of this run in {store.shown_url}"))
    out.print(Text(f"again        .venv/bin/smartops run show {str(detail.run.run_id)[:8]}"))


def record_of(run_id: UUID) -> RunDetail:
    """Return the run's record once its end is in it, or as it is after 15 s.

    Raises StoreUnavailable when nothing of the run came to the audit store.
    """
    deadline = time.monotonic() + _RECORD_LIMIT_S
    while True:
        with audit_store() as store:
            try:
                detail = get_run(store, str(run_id))
            except BadInput:
                detail = None
        if detail is not None and detail.run.state != "running":
            return detail
        if time.monotonic() >= deadline:
            if detail is not None:
                return detail
            raise StoreUnavailable(
                f"run {run_id} left no record; it may have been ended before its first step",
                hint=f"See it in the Prefect UI under runs/flow-run/{run_id}.",
            )
        time.sleep(0.2)


async def show_live(run_id: UUID, job: JobSpec) -> None:
    """Show states and log lines until the run has ended: a progress display on a terminal."""
    board = _Board(job)
    if not err.is_terminal:
        async for news in follow(run_id):
            if line := board.take(news):
                err.print(line)
        return
    with Live(board, console=err, refresh_per_second=8, transient=True) as live:
        async for news in follow(run_id):
            if line := board.take(news):
                live.console.print(line)


class _Board:
    """The steps of a job with the state of each."""

    def __init__(self, job: JobSpec) -> None:
        self._states = {name: "waiting" for wave in graph.compile(job).waves for name in wave}
        self._started: dict[str, float] = {}
        self._run = "Scheduled"
        self._spinner = Spinner("dots")
        self._names: dict[UUID, str] = {}

    def take(self, news: News) -> Text | None:
        """Take a piece of news in; return the line to print for it, if any."""
        stamp = (news.at.astimezone().strftime("%H:%M:%S "), "dim")
        if news.task_run is not None and news.what == "step":
            self._names[news.task_run] = news.name
        if news.what == "log":
            name = self._names.get(news.task_run, "") if news.task_run else ""
            quiet = news.text.startswith(_SAID_BY_STATES) or news.name.startswith(_WORKER_LOGS)
            return (
                None
                if quiet
                else Text.assemble(stamp, f"{name:<12}   ", (first_line(news.text), "dim"))
            )
        if news.what == "step":
            if news.text == "Pending":
                return None  # Prefect names a step only when it starts
            if news.name in self._states:
                self._states[news.name] = news.text
                if news.text == "Running":
                    self._started[news.name] = time.monotonic()
            return Text.assemble(stamp, (f"{news.name:<12} ", "bold"), _coloured(news.text))
        if news.text == self._run:
            return None
        self._run = news.text
        return Text.assemble(stamp, ("run          ", "bold"), _coloured(news.text))

    def __rich__(self) -> RenderableType:
        """Return the display of this moment."""
        done = sum(state in _OVER for state in self._states.values())
        head = Text(f" {done} of {len(self._states)} steps done, run {self._run}", style="bold")
        rows: list[RenderableType] = [Text(), head]
        for name, state in self._states.items():
            if state == "Running":
                since = time.monotonic() - self._started[name]
                self._spinner.update(text=Text(f"{name}  {since:.1f} s", style="cyan"))
                rows.append(self._spinner)
            elif state not in _OVER:
                rows.append(Text.assemble(("· ", "dim"), (name, "dim")))
        return Group(*rows)


def _coloured(state: str) -> Text:
    style = state_text(state.lower()).style
    return Text(state, style=style)
