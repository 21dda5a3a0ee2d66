"""``smartops schedule``: when jobs start next, and runs for times that have passed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from smartops.cli.connection import audit_store, use_prefect
from smartops.cli.jobs import job_of_file
from smartops.cli.options import AsJson
from smartops.cli.output import out, print_json, table
from smartops.cli.runs import moment
from smartops.errors import BadInput

if TYPE_CHECKING:
    from services.prefect_schedules import AnySchedule

app = typer.Typer(help="Schedules of jobs.", no_args_is_help=True)


@app.command()
def preview(
    job: Annotated[str, typer.Argument(help="Name of a deployed job, or a job file.")],
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many fires.")] = 10,
    since: Annotated[
        str | None, typer.Option(help="From then on: a time (ISO 8601). Default: now.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the next fires in local time and UTC, and where a clock change makes a difference."""
    spec = job_of_file(job)
    schedules: Sequence[AnySchedule]
    begin = moment("--since", since) or datetime.now(UTC)
    if spec is None:
        use_prefect()
        from services import job_overview  # noqa: PLC0415 - Prefect reads its settings on import

        deployed = asyncio.run(job_overview.deployed(job))
        spec, schedules = deployed.spec, deployed.schedules
    else:
        from services.prefect_schedules import schedules_of  # noqa: PLC0415 - the same

        schedules = schedules_of(spec)
    from services import previewing  # noqa: PLC0415 - Prefect reads its settings on import

    found = asyncio.run(previewing.preview(spec, schedules, begin, count))
    if as_json:
        print_json([fire.as_json() for fire in found])
        return
    rows = [
        (
            f"{fire.local:%a %Y-%m-%d %H:%M:%S %Z}",
            f"{fire.at:%Y-%m-%d %H:%M:%S}",
            fire.schedule,
            Text("" if fire.starts else "no run", style="yellow"),
            fire.note,
        )
        for fire in found
    ]
    titles = ["local", "UTC", "schedule", "", "note"]
    out.print(table(titles, rows) if rows else f"job {spec.name} starts by hand only")


@app.command()
def backfill(
    name: Annotated[str, typer.Argument(help="Name of a deployed job.")],
    since: Annotated[str, typer.Option("--from", help="Begin of the period: ISO 8601, or 2d.")],
    until: Annotated[str | None, typer.Option("--to", help="End of it. Default: now.")] = None,
    parallel: Annotated[
        int, typer.Option(min=1, max=100, help="How many may run at the same time.")
    ] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start a run for each slot of a period that has had none."""
    now = datetime.now(UTC)
    begin, end = moment("--from", since), moment("--to", until) or now
    if begin is None or end > now:
        raise BadInput("--to: the period must lie in the past")
    use_prefect()
    from services import backfilling  # noqa: PLC0415 - Prefect reads its settings on import

    with audit_store() as store:
        found = asyncio.run(
            backfilling.backfill(store, name, begin, end, parallel=parallel, dry_run=dry_run)
        )
    if as_json:
        print_json([slot.as_json() for slot in found])
        return
    rows = [
        (
            f"{s.due_at.astimezone():%Y-%m-%d %H:%M:%S %Z}",
            s.schedule,
            s.action,
            s.reason,
            s.run_id or "",
        )
        for s in found
    ]
    titles = ["due", "schedule", "action", "why", "run"]
    out.print(table(titles, rows) if rows else "no slot in this period")
