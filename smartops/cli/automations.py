"""``smartops automation``: Prefect's automations as files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from smartops.cli.connection import use_prefect
from smartops.cli.options import AsJson
from smartops.cli.output import out, print_json, table
from smartops.errors import BadInput

if TYPE_CHECKING:
    from services.automation_files import AutomationFile

app = typer.Typer(help="Prefect's automations as files: apply, diff, list.", no_args_is_help=True)
Paths = Annotated[list[Path], typer.Argument(help="Files of automations, or folders of them.")]


@app.command()
def apply(
    paths: Paths,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete automations whose files are gone.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would change.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite what somebody else has changed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Create the automations of files, and bring those that differ up to date.

    One that is paused in Prefect stays paused, unless its file says `enabled`.
    """
    folders = [path for path in paths if path.is_dir()]
    if prune and not folders:
        raise BadInput("--prune needs a folder: it deletes what came from files gone from it")
    files = _files(paths, may_be_empty=prune)
    from services import automations  # noqa: PLC0415 - Prefect reads its settings on import

    changes = asyncio.run(
        automations.apply(files, prune=folders if prune else (), dry_run=dry_run, force=force)
    )
    if as_json:
        print_json([change.as_json() for change in changes])
        return
    rows = [(c.name, c.action, "" if c.enabled else "paused") for c in changes]
    out.print(table(["automation", "action", ""], rows))


def _files(paths: list[Path], *, may_be_empty: bool = False) -> list[AutomationFile]:
    use_prefect()
    from services import automation_files  # noqa: PLC0415 - Prefect reads its settings on import

    files = automation_files.files_in(paths)
    if not files and not may_be_empty:
        raise BadInput(f"no automation in {', '.join(map(str, paths))}")
    return [automation_files.load(file) for file in files]


@app.command()
def diff(paths: Paths, as_json: AsJson = False) -> int:
    """Show what differs from what Prefect has; exit with 1 where something does."""
    files = _files(paths)
    from services import automations  # noqa: PLC0415 - Prefect reads its settings on import

    changes = asyncio.run(automations.apply(files, dry_run=True, force=True))
    if as_json:
        print_json([change.as_json() for change in changes])
    else:
        for change in changes:
            text = change.diff.rstrip() or f"{change.name}: no difference"
            out.print(Text(text))
    return 1 if any(change.diff for change in changes) else 0


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the automations that Prefect has, and the files that they came from."""
    use_prefect()
    from services import automations  # noqa: PLC0415 - Prefect reads its settings on import

    found = asyncio.run(automations.known())
    if as_json:
        print_json([vars(one) for one in found])
        return
    rows = [
        (
            one.name,
            "" if one.enabled else "paused",
            one.trigger,
            ", ".join(one.actions),
            f"{one.file}{', changed since' if one.changed else ''}" if one.file else "by hand",
        )
        for one in found
    ]
    titles = ["automation", "", "fires", "does", "from"]
    out.print(table(titles, rows) if rows else "Prefect has no automation")
