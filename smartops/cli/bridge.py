"""``smartops bridge``: start jobs on what happens at the plant."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from smartops.cli.connection import use_prefect
from smartops.cli.options import AsJson
from smartops.cli.output import err, local_time, out, print_json, say, table, time_at
from smartops.jobs.event_sources import load_sources

app = typer.Typer(
    help="What happens at the plant starts jobs: run, check, status.", no_args_is_help=True
)
File = Annotated[Path, typer.Argument(help="YAML file with the sources.")]
_COLUMNS = ("received", "started", "told", "repeated", "missed", "unwanted", "refused")


@app.command()
def run(file: File) -> None:
    """Listen to the sources of a file until Ctrl-C; `SMARTOPS_BRIDGE` lets `smartops up` do it."""
    sources = load_sources(file)
    use_prefect()
    from services import bridge  # noqa: PLC0415 - Prefect reads its settings on import

    logging.getLogger("services").setLevel(logging.INFO)
    say(f"listening to {', '.join(source.name for source in sources.sources)}; Ctrl-C ends it")
    asyncio.run(bridge.until_signal(sources))


@app.command()
def check(file: File) -> int:
    """Check a file: that brokers, devices, tags, jobs and parameters are there."""
    sources = load_sources(file)
    use_prefect()
    from services import bridge_check  # noqa: PLC0415 - Prefect reads its settings on import

    problems = asyncio.run(bridge_check.problems_of(sources))
    for problem in problems:
        err.print(Text(problem, style="red"))
    if not problems:
        say(f"{file}: {len(sources.sources)} sources, nothing is missing")
    return 1 if problems else 0


@app.command()
def status(as_json: AsJson = False) -> int:
    """Show what each source has received and started, and the last events that failed.

    Exit with 3 when no bridge has ever run in this home folder.
    """
    from services import bridge  # noqa: PLC0415 - slow to import

    running = bridge.is_running()
    with bridge.readable_ledger() as ledger:
        sources, problems = ledger.sources(), ledger.problems()
    if as_json:
        print_json(
            {
                "running": running,
                "sources": [
                    {
                        "name": s.name,
                        "state": s.state,
                        "since": _iso(s.since),
                        "problem": s.problem,
                        "last_at": None if s.last_at is None else _iso(s.last_at),
                        **s.counts,
                    }
                    for s in sources
                ],
                "problems": [{**problem, "at": _iso(problem["at"])} for problem in problems],
            }
        )
        return 0
    rows: list[tuple[Any, ...]] = [
        (s.name, s.state, local_time(time_at(s.since)), *(s.counts[what] for what in _COLUMNS))
        for s in sources
    ]
    out.print(table(["source", "state", "since", *_COLUMNS], rows))
    if not running:
        out.print(Text("the bridge does not run now", style="red"))
    for source in sources:
        if source.problem:
            out.print(Text(f"{source.name}: {source.problem}", style="yellow"))
    for problem in problems:
        when = local_time(time_at(problem["at"]))
        out.print(Text(f"{when} {problem['source']}: {problem['problem']}", style="red"))
    return 0


def _iso(seconds: float) -> str:
    return time_at(seconds).isoformat()
