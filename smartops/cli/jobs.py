"""``smartops job``: job files, and running them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from smartops.cli.connection import use_prefect
from smartops.cli.options import AsJson, read_params
from smartops.cli.output import err, out, print_json, table
from smartops.errors import JobFileError

if TYPE_CHECKING:
    from smartops.jobs.spec import JobSpec

app = typer.Typer(help="Job files, and running them.", no_args_is_help=True)


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(help="Job files.")], as_json: AsJson = False
) -> int:
    """Check job files; name file, line and field of everything that is wrong."""
    from smartops.jobs import loader  # noqa: PLC0415 - loads plugins

    results: list[dict[str, Any]] = []
    for file in files:
        problems: list[dict[str, Any]] = []
        try:
            loader.load(file)
        except loader.JobFileProblems as error:
            problems = [vars(problem) for problem in error.problems]
        except JobFileError as error:
            problems = [{"file": str(file), "line": 0, "field": "", "message": str(error)}]
        results.append({"file": str(file), "ok": not problems, "problems": problems})
    if as_json:
        print_json(results)
    else:
        for result in results:
            _print_lint(result)
    return 0 if all(result["ok"] for result in results) else 2


def _print_lint(result: dict[str, Any]) -> None:
    if result["ok"]:
        out.print(Text(f"{result['file']}: ok"))
    for problem in result["problems"]:
        field = f"{problem['field']}: " if problem["field"] else ""
        where = f"{problem['file']}:{problem['line']}: " if problem["line"] else ""
        err.print(Text(f"{where}{field}{problem['message']}"))


@app.command()
def plan(
    file: Annotated[Path, typer.Argument(help="A job file.")], as_json: AsJson = False
) -> None:
    """Show in which order a job's steps run, which in parallel, what they do and what they hold."""
    from smartops.jobs import graph, loader  # noqa: PLC0415 - loads plugins
    from smartops.jobs.revision import revision_of  # noqa: PLC0415
    from tasks import catalogue  # noqa: PLC0415 - it imports Prefect

    job = loader.load(file)
    made = graph.compile(job)
    rows: list[dict[str, Any]] = [
        {
            "wave": number,
            "step": step_id,
            "kind": made.step(step_id).kind,
            "needs": sorted(made.needs[step_id]),
            "effect": catalogue.effect_if_skipped(made.step(step_id)).value,
            "locks": sorted({*job.locks, *made.step(step_id).locks}),
        }
        for number, wave in enumerate(made.waves, start=1)
        for step_id in wave
    ]
    if as_json:
        print_json({"job": job.name, "revision": revision_of(job), "steps": rows})
        return
    out.print(Text(f"{job.name}, revision {revision_of(job)[:12]}", style="bold"))
    lists = ("needs", "locks")
    titles = ["wave", "step", "kind", "effect", "needs", "locks"]
    cells = [[", ".join(r[name]) if name in lists else r[name] for name in titles] for r in rows]
    out.print(table(titles, cells))


@app.command()
def schema() -> None:
    """Print the JSON Schema of job files, for editors."""
    from smartops.jobs.schema import job_schema  # noqa: PLC0415 - loads plugins

    print_json(job_schema())


@app.command()
def run(
    job: Annotated[str, typer.Argument(help="Name of a deployed job, or a job file.")],
    param: Annotated[
        list[str] | None, typer.Option("-p", "--param", help="A parameter: key=value.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow the run until it has ended.")
    ] = False,
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse", help="Against the simulated plant only; tells what it would do."
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Start a run; with --wait, follow it and exit with 1 when it fails."""
    params = read_params(param or [], "-p")
    spec = job_of_file(job)
    if spec is not None:
        from smartops.jobs.param import from_texts  # noqa: PLC0415 - loads plugins

        spec.resolve_params(from_texts(spec.params, params))
    use_prefect()
    # Imported here: Prefect reads its settings when it is imported, and not in a loop.
    from smartops.cli.running import run_and_report  # noqa: PLC0415

    return asyncio.run(
        run_and_report(job, spec, params, wait=wait, as_json=as_json, rehearse=rehearse)
    )


def job_of_file(job: str) -> JobSpec | None:
    """Return the job of a file, None when the text is a deployed job's name."""
    from smartops.jobs import loader  # noqa: PLC0415 - loads plugins

    if not (job.endswith(loader.SUFFIXES) or "/" in job):
        return None
    return loader.load(job)
