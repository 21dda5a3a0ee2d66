"""``smartops job apply | diff | list | show | pause | resume | rollback | delete | export``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from smartops.cli.connection import audit_store, use_prefect
from smartops.cli.jobs import job_of_file
from smartops.cli.options import AsJson
from smartops.cli.output import local_time, out, print_json, say, state_text, table
from smartops.errors import BadInput
from smartops.jobs.step import shorten
from smartops.people import who_is_here

if TYPE_CHECKING:
    from services.changing_jobs import Change, Wanted
    from smartops.jobs.spec import JobSpec

Name = Annotated[str, typer.Argument(help="Name of a deployed job.")]


def apply(
    paths: Annotated[list[Path], typer.Argument(help="Job files, or folders of them.")],
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete jobs that came from files which are gone.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would change.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what somebody else has changed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create the jobs of files, and bring those that differ up to date."""
    folders = [path for path in paths if path.is_dir()]
    if prune and not folders:
        raise BadInput("--prune needs a folder: it deletes the jobs whose files are gone from it")
    files = _files(paths, may_be_empty=prune)
    wanted = [_wanted(file) for file in files]
    use_prefect()
    from services import changing_jobs  # noqa: PLC0415 - Prefect reads its settings on import

    with audit_store() as store:
        changes = asyncio.run(
            changing_jobs.apply(
                store,
                wanted,
                who_is_here(),
                prune=folders if prune else (),
                dry_run=dry_run,
                force=force,
            )
        )
    if not dry_run:
        for file, want in zip(files, wanted, strict=True):
            _keep_up_to_date(file, want)
    if as_json:
        print_json([change.as_json() for change in changes])
    else:
        out.print(_table_of(changes))


def _files(paths: list[Path], *, may_be_empty: bool) -> list[Path]:
    from smartops.jobs import loader  # noqa: PLC0415 - loads plugins

    files = [f for path in paths for f in (loader.job_files(path) if path.is_dir() else [path])]
    if not files and not may_be_empty:
        raise BadInput(f"no job file in {', '.join(map(str, paths))}")
    return files


def _wanted(file: Path) -> Wanted:
    from services.changing_jobs import Wanted  # noqa: PLC0415 - slow to import
    from smartops.jobs import exporting, loader  # noqa: PLC0415 - loads plugins

    spec = loader.load(file)
    base = exporting.revision_in(file.read_text("utf-8-sig"))
    return Wanted(spec, f"file {file.resolve()}"[:255], base)


def _keep_up_to_date(file: Path, want: Wanted) -> None:
    """Write the new revision into a file that says which one it began from."""
    from smartops.jobs import exporting  # noqa: PLC0415 - loads plugins
    from smartops.jobs.revision import revision_of  # noqa: PLC0415

    revision = revision_of(want.spec)
    if want.base not in {None, revision}:
        text = file.read_text("utf-8-sig")
        file.write_text(exporting.with_revision(text, revision), "utf-8")


def _table_of(changes: list[Change]) -> object:
    rows = [
        (c.job, c.action, (c.before or "")[:12], (c.revision or "")[:12] if c.revision else "")
        for c in changes
    ]
    return table(["job", "action", "before", "revision"], rows)


def _tell(change: Change, as_json: bool) -> None:
    if as_json:
        print_json(change.as_json())
    else:
        revision = f", revision {change.revision[:12]}" if change.revision else ""
        say(f"job {change.job}: {change.action}{revision}")


def list_(as_json: AsJson = False) -> None:
    """List the deployed jobs."""
    use_prefect()
    from services import job_overview  # noqa: PLC0415 - Prefect reads its settings on import

    with audit_store() as store:
        jobs = asyncio.run(job_overview.overview(store))
    if as_json:
        print_json([job.as_json() for job in jobs])
        return
    rows = [
        (
            job.name,
            job.revision[:12],
            "paused" if job.paused else "",
            ", ".join(job.schedules) or "by hand",
            local_time(job.next_due) if job.next_due else "",
            state_text(job.last_state or ""),
        )
        for job in jobs
    ]
    titles = ["job", "revision", "", "starts", "next", "last run"]
    out.print(table(titles, rows) if rows else "no job is deployed")


def show(name: Name, as_json: AsJson = False) -> None:
    """Show a deployed job: what it is, and who changed it."""
    use_prefect()
    from services import job_overview  # noqa: PLC0415 - Prefect reads its settings on import
    from smartops.audit.revisions import changes_of  # noqa: PLC0415
    from smartops.jobs.exporting import as_yaml  # noqa: PLC0415

    job = asyncio.run(job_overview.deployed(name))
    with audit_store() as store:
        changes = changes_of(store, job.spec.name)
    if as_json:
        document = {"job": job.spec.document(), "revision": job.revision, "paused": job.paused}
        history = [{**vars(c), "at": c.at.isoformat()} for c in changes]
        print_json({**document, "changes": history})
        return
    paused = ", paused" if job.paused else ""
    out.print(Text.assemble((job.name, "bold"), f", revision {job.revision[:12]}{paused}"))
    out.print(Text(as_yaml(job.spec)))
    rows = [
        (local_time(c.at), c.action, (c.revision or "")[:12], c.person, shorten(c.source, 60))
        for c in changes
    ]
    if rows:
        out.print(table(["changed", "how", "revision", "by", "from"], rows))


def diff(
    job: Annotated[str, typer.Argument(help="A job file, or the name of a deployed job.")],
    revision: Annotated[
        str | None, typer.Argument(help="Compare with this revision of it.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show what differs from what is deployed; exit with 1 where something does."""
    spec = job_of_file(job)
    use_prefect()
    from services import job_overview  # noqa: PLC0415 - Prefect reads its settings on import
    from smartops.audit.revisions import changes_of, find_revision, spec_on_record  # noqa: PLC0415
    from smartops.jobs.exporting import difference  # noqa: PLC0415

    name = spec.name if spec is not None else job
    found = asyncio.run(job_overview.deployed_or_none(name))
    before: JobSpec | None
    with audit_store() as store:
        if revision is not None:
            before = spec_on_record(store, find_revision(store, name, revision))
            after = spec or asyncio.run(job_overview.deployed(name)).spec
        elif spec is not None:
            before, after = (found.spec if found else None), spec
        else:
            ours = [c for c in changes_of(store, name) if c.revision]
            before = spec_on_record(store, ours[0].revision or "") if ours else None
            after = asyncio.run(job_overview.deployed(name)).spec
    text = difference(before, after)
    drifted = revision is None and found is not None and found.drifted
    if as_json:
        print_json(
            {"job": name, "differs": bool(text) or drifted, "drifted": drifted, "diff": text}
        )
        return 1 if text or drifted else 0
    if drifted:
        out.print(Text(f"{name}: its schedules or parameters were changed outside of its file"))
    if text or not drifted:
        out.print(Text(text.rstrip() if text else f"{name}: no difference"))
    return 1 if text or drifted else 0


def export(
    name: Name,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; default: stdout.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the file of a deployed job; applied again, it conflicts with changes made meanwhile."""
    use_prefect()
    from services import job_overview  # noqa: PLC0415 - Prefect reads its settings on import
    from smartops.jobs import exporting  # noqa: PLC0415

    deployed = asyncio.run(job_overview.deployed(name))
    text = exporting.export(deployed.spec)
    if as_json:
        print_json({"job": deployed.spec.document(), "revision": deployed.revision})
    elif output is None:
        typer.echo(text, nl=False)
    if output is not None:
        output.write_text(text, "utf-8")
        say(f"job {name} is written to {output}")


def rollback(
    name: Name,
    revision: Annotated[str, typer.Argument(help="The revision, or the first part of it.")],
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what somebody else has changed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give a job an earlier revision again, byte for byte."""
    use_prefect()
    from services import changing_jobs  # noqa: PLC0415 - Prefect reads its settings on import

    with audit_store() as store:
        change = asyncio.run(
            changing_jobs.rollback(store, name, revision, who_is_here(), force=force)
        )
    _tell(change, as_json)


def pause(name: Name, as_json: AsJson = False) -> None:
    """Let a job's schedules start nothing until `resume`."""
    _set_paused(name, as_json, paused=True)


def resume(name: Name, as_json: AsJson = False) -> None:
    """Let a paused job's schedules go on."""
    _set_paused(name, as_json, paused=False)


def _set_paused(name: str, as_json: bool, *, paused: bool) -> None:
    use_prefect()
    from services import changing_jobs  # noqa: PLC0415 - Prefect reads its settings on import

    _tell(asyncio.run(changing_jobs.set_paused(name, who_is_here(), paused=paused)), as_json)


def delete(name: Name, as_json: AsJson = False) -> None:
    """Delete a job; what is on record of it stays."""
    use_prefect()
    from services import changing_jobs  # noqa: PLC0415 - Prefect reads its settings on import

    _tell(asyncio.run(changing_jobs.delete(name, who_is_here())), as_json)


def add_to(app: typer.Typer) -> None:
    """Add the commands to those that are about jobs."""
    for command in (apply, show, diff, export, rollback, pause, resume, delete):
        app.command()(command)
    app.command("list")(list_)
