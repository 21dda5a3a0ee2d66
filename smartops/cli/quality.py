"""``smartops quality``: check data by hand, and show what checks have found."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from smartops.cli.connection import audit_store
from smartops.cli.options import AsJson, read_duration
from smartops.cli.output import out, print_json, table
from smartops.errors import BadInput

app = typer.Typer(help="Checks of data.", no_args_is_help=True)
_STYLES = {"passed": "green", "warned": "yellow", "failed": "red"}


@app.command("list")
def list_suites(as_json: AsJson = False) -> None:
    """List the suites of expectations in deployments/quality."""
    from reports.quality import suite as suites  # noqa: PLC0415 - only this command needs it

    found = [suites.load(suites.find(name)) for name in suites.suite_names()]
    rows = [
        (s.name, "a step's rows" if s.takes_rows else "the record", s.description) for s in found
    ]
    if as_json:
        print_json([dict(zip(("suite", "checks", "description"), r, strict=True)) for r in rows])
    else:
        out.print(table(["suite", "checks", "description"], rows))


@app.command()
def lint(files: Annotated[list[Path], typer.Argument(help="Files of suites.")]) -> int:
    """Say for each file whether it is a suite, or what is wrong with it; exit with 2 then."""
    from reports.quality import suite as suites  # noqa: PLC0415 - only this command needs it

    bad = 0
    for path in files:
        try:
            suites.load(path)
            out.print(Text(f"{path}: ok"))
        except BadInput as error:
            bad += 1
            out.print(Text(error.one_line))
    return 2 if bad else 0


@app.command()
def check(
    suite: Annotated[str, typer.Argument(help="The suite's name.")],
    rows: Annotated[
        Path | None, typer.Option(help="A JSON file with the rows, for a suite that needs them.")
    ] = None,
    look_back: Annotated[str, typer.Option(help="How far back queries look, such as 7d.")] = "2d",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also write what is found as a page.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Check now, off the record; exit with 1 when an expectation failed."""
    from reports.quality import checking, page  # noqa: PLC0415 - only this command needs it

    length = read_duration("--look-back", look_back)
    try:
        given = None if rows is None else json.loads(rows.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise BadInput(f"{rows}: {error}") from None
    with audit_store():  # what the journals still hold is looked at as well
        found = asyncio.run(checking.check(suite, given, look_back=length))
    if output is not None:
        html = page.check_page(suite, datetime.now(UTC), found.results, found.bad_rows)
        output.write_text(f"{html}\n", "utf-8")
    if as_json:
        print_json({"status": found.status, **found.as_json()})
    else:
        out.print(table(["status", "dataset", "found"], [_line(r) for r in found.results]))
    return 1 if found.status == "failed" else 0


def _line(result: Any) -> tuple[Text, str, str]:
    return Text(result.status, style=_STYLES[result.status]), result.dataset, result.sentence


@app.command()
def docs(
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder to write to.")],
    days: Annotated[int, typer.Option(min=1, max=3660, help="How far back.")] = 30,
) -> None:
    """Write what checks have found as static pages, one for each suite."""
    from reports.quality import history  # noqa: PLC0415 - only this command needs it

    with audit_store() as store:
        written = history.write_pages(store, output, datetime.now(UTC), days)
    out.print(f"{written[0]}: {len(written) - 1} suites")
