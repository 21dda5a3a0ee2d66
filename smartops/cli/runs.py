"""``smartops run``: what happened, from the audit store; and the logs, from Prefect."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from smartops.cli.connection import audit_store, use_prefect
from smartops.cli.options import AsJson
from smartops.cli.output import first_line, local_time, out, print_json, seconds, state_text, table
from smartops.durations import parse_duration
from smartops.errors import BadInput
from smartops.jobs.step import shorten

if TYPE_CHECKING:
    from reports.runs import RunDetail, StepResult

app = typer.Typer(help="Runs and their record.", no_args_is_help=True)
STATES = ("running", "suspended", "completed", "failed", "needs_decision", "cancelled", "crashed")


@app.command("list")
def list_(
    job: Annotated[str | None, typer.Option(help="Only runs of this job.")] = None,
    state: Annotated[str | None, typer.Option(help=f"Only these: {', '.join(STATES)}.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Only runs since then: a time (ISO 8601) or 2h, 7d.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only runs before then.")] = None,
    device: Annotated[
        str | None, typer.Option(help="Only runs that sent a command to this device.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Only runs that this person asked for or decided on.")
    ] = None,
    after: Annotated[
        str | None, typer.Option(help="The next page: only runs older than this one.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List runs, the newest first."""
    from reports.runs import Wanted, get_run, list_runs  # noqa: PLC0415 - slow to import

    if state is not None and state not in STATES:
        raise BadInput(f"unknown state {state!r}; known: {', '.join(STATES)}")
    wanted = Wanted(
        job=job,
        state=state,
        since=moment("--since", since),
        until=moment("--until", until),
        device=device,
        person=by,
    )
    with audit_store() as store:
        if after is not None:
            wanted = replace(wanted, after=get_run(store, after).run.run_id)
        runs = list_runs(store, wanted, limit=limit)
    if as_json:
        print_json([run.as_json() for run in runs])
        return
    titles = ["run", "job", "state", "started", "took", "message"]
    rows = [
        (
            str(run.run_id)[:8],
            run.job,
            state_text(run.state),
            local_time(run.started_at),
            seconds(run.duration_s),
            shorten(run.message, 80),
        )
        for run in runs
    ]
    out.print(table(titles, rows) if rows else "no such runs on record")


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="The run's id, or the first part of it.")],
    as_json: AsJson = False,
) -> None:
    """Show a run: its steps, what they read and wrote, and its device commands."""
    from reports.runs import get_run  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        detail = get_run(store, run)
    if as_json:
        print_json(detail.as_json())
    else:
        print_run(detail)


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="The run's id, or the first part of it.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until the run has ended.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print a run's log lines; --json gives them whole, with their tracebacks."""
    if follow and as_json:
        raise BadInput("--follow and --json do not go together")
    from reports.runs import get_run  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        run_id = get_run(store, run).run.run_id
    use_prefect()
    # Imported here: Prefect reads its settings when it is imported, and not in a loop.
    from services import following  # noqa: PLC0415

    if as_json:
        lines = asyncio.run(following.past_logs(run_id))
        print_json([{"at": line.at.isoformat(), "text": line.text} for line in lines])
    else:
        asyncio.run(_print_logs(following, run_id, follow=follow))


async def _print_logs(following: ModuleType, run_id: UUID, *, follow: bool) -> None:
    if follow:
        async for news in following.follow(run_id):
            if news.what == "log":
                out.print(Text(f"{local_time(news.at)}  {first_line(news.text)}"))
        return

    for line in await following.past_logs(run_id):
        out.print(Text(f"{local_time(line.at)}  {first_line(line.text)}"))


def print_run(detail: RunDetail) -> None:
    """Print a run for a person."""
    run = detail.run
    out.print(Text.assemble((run.job, "bold"), "  ", state_text(run.state), f"  {run.run_id}"))
    out.print(f"started {local_time(run.started_at)}, took {seconds(run.duration_s) or 'so far'}")
    if run.message:
        out.print(Text(run.message, style="red"))
    if run.evidence:
        out.print(Text(_evidence(run.evidence), style="dim"))
    if detail.processes and (left := detail.processes[-1].left):
        out.print(Text(left, style="dim"))
    out.print()
    out.print(step_table(detail))


def _evidence(evidence: dict[str, Any]) -> str:
    """Return what is known of a run's death in a line."""
    last = evidence.get("last_record") or {}
    parts = {
        "host": evidence.get("host"),
        "pid": evidence.get("pid"),
        "exit status": evidence.get("exit_status"),
        "last record": f"{last['type']} at {last['at']}" if last else None,
        "under way": ", ".join(evidence.get("steps_under_way") or ()),
        "in Prefect": evidence.get("prefect_state"),
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value not in {None, ""})


def step_table(detail: RunDetail) -> object:
    """Return the steps of a run as a table."""
    titles = ["step", "kind", "state", "took", "tries", "what"]
    rows = [
        (
            step.id,
            step.kind,
            state_text(step.state),
            seconds(step.duration_s) if step.state != "skipped" else "",
            step.attempts or "",
            what_happened(step),
        )
        for step in detail.steps
    ]
    return table(titles, rows)


def what_happened(step: StepResult) -> str:
    """Return a step's output, or its error, in a few words."""
    from smartops.jobs.kinds import load_kinds  # noqa: PLC0415 - loads plugins
    from smartops.jobs.step import StepBase  # noqa: PLC0415

    if step.error:
        return step.error
    if step.state != "completed":
        return ""
    return load_kinds().get(step.kind, StepBase).brief(step.output)


def moment(option: str, text: str | None) -> datetime | None:
    """Return a time that is given as ISO 8601 or as how long ago; raise BadInput."""
    if text is None:
        return None
    try:
        if re.fullmatch(r"[\d.]+(ms|s|m|h|d).*", text):
            length = parse_duration(text)
            if isinstance(length, timedelta):
                return datetime.now(UTC) - length
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.astimezone()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadInput(f"{option}: {text!r} is neither a time (ISO 8601) nor 2h or 7d") from None
