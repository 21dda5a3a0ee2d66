"""``smartops report check | apply``: files of users' own reports."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from smartops.cli.connection import use_prefect
from smartops.cli.output import err, out, table
from smartops.errors import BadInput
from smartops.yaml_problems import FileProblems

if TYPE_CHECKING:
    from reports.own.spec import OwnReport


def check(given: list[Path]) -> int:
    """Say for each file whether it is a report, or all that is wrong with it; exit with 2 then."""
    bad = 0
    for path in _files(given):
        try:
            _load(path)
            out.print(Text(f"{path}: ok"))
        except FileProblems as error:
            bad += 1
            for problem in error.problems:
                err.print(Text(str(problem)))
        except BadInput as error:
            bad += 1
            err.print(Text(error.one_line))
    return 2 if bad else 0


def apply(given: list[Path]) -> None:
    """Deploy the reports of files with their schedules, or bring their deployments up to date."""
    from reports.own import files  # noqa: PLC0415 - slow to import

    use_prefect()  # before anything imports Prefect, which reads its settings then
    paths = _files(given)
    for path in paths:
        if path.resolve().parent != files.folder().resolve():
            raise BadInput(
                f"{path}: its runs would not find it",
                hint=f"Put it into {files.folder()}, on each worker's machine.",
            )
    loaded = [(_load(path), files.revision(path)) for path in paths]
    asyncio.run(_deploy(loaded))


async def _deploy(loaded: list[tuple[OwnReport, str]]) -> None:
    from services import deployed_reports  # noqa: PLC0415 - see above
    from services.prefect_api import prefect  # noqa: PLC0415

    rows = []
    async with prefect() as client:
        for own, revision in loaded:
            await deployed_reports.deploy(client, own, revision)
            rows.append((deployed_reports.name_of(own), _when(own), revision[:12]))
    out.print(table(["deployment", "schedule", "revision"], rows))


def _when(own: OwnReport) -> str:
    if own.schedule is None:
        return "when asked for"
    return f"{own.schedule.cron} {own.schedule.timezone}"


def _files(given: list[Path]) -> list[Path]:
    from reports.own import files  # noqa: PLC0415 - slow to import

    found = given or sorted(files.folder().glob("*.yaml"))
    if not found:
        raise BadInput(f"there is no report in {files.folder()}", hint="Name files.")
    return found


def _load(path: Path) -> OwnReport:
    """Return a file's report. Raises FileProblems, also for a schedule that never fires."""
    from reports.own import files  # noqa: PLC0415 - slow to import
    from services.deployed_reports import schedules_of  # noqa: PLC0415 - it imports Prefect

    own = files.load(path)
    try:
        schedules_of(own)
    except BadInput as error:
        raise files.problem(path, ("schedule", "cron"), str(error)) from None
    return own
