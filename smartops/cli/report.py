"""``smartops report``: what people act on, made from the record."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from smartops.cli import own_reports
from smartops.cli.connection import audit_store
from smartops.cli.options import read_params
from smartops.cli.output import local_time, out, table
from smartops.errors import BadInput
from smartops.settings import get_settings

if TYPE_CHECKING:
    from reports.catalogue import Format
    from reports.period import Span


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    name: Annotated[
        str,
        typer.Argument(
            help="Its name; or `list` all, `kept` what was kept, `check` and `apply` files."
        ),
    ],
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="With `check` and `apply`: files. Default: deployments/reports."),
    ] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="The first day or moment, such as 2026-11-21.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="The last day, or the moment that it goes up to.")
    ] = None,
    last: Annotated[
        str | None, typer.Option(help="The last whole day, week or month, or that of --from.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="html, pdf, csv or json.")] = "html",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file to write; - for stdout.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--table", help="With --format csv: this table alone.")
    ] = None,
    digest: Annotated[
        str | None, typer.Option("--hash", help="With `kept`: the one with this hash, as it was.")
    ] = None,
    about: Annotated[
        list[str] | None, typer.Option("-p", help="What it is about: job=NAME, run=ID.")
    ] = None,
) -> int:
    """Make a report from the record; the same period over the same data gives the same bytes."""
    from reports import as_data, catalogue, period  # noqa: PLC0415 - slow to import
    from reports.own.spec import WORDS_OF_THE_COMMAND  # noqa: PLC0415

    if name in WORDS_OF_THE_COMMAND:
        return _besides(name, files or [], digest, output)
    if files:
        raise BadInput(f"{files[0]}: files go with `smartops report check` and `apply`")
    if digest is not None:
        raise BadInput("--hash goes with `smartops report kept`")
    wanted, span = _usable(form, only, last)
    kind = catalogue.find(name)
    zone = get_settings().report_timezone
    time = period.between(from_, to, zone, span or kind.span, datetime.now(UTC))
    with audit_store() as store:
        document = catalogue.build(store, kind, time, read_params(about or [], "-p"))
    made = catalogue.rendered(document, wanted) if only is None else as_data.as_csv(document, only)
    _write(made, output or Path(f"{name}-{time.start:%Y-%m-%d}.{form}"))
    return 0


def _usable(form: str, only: str | None, last: str | None) -> tuple[Format, Span | None]:
    """Return the format and the length of the period, where these options go together."""
    from reports import catalogue, period  # noqa: PLC0415 - slow to import

    if form not in catalogue.FORMATS:
        raise BadInput(f"--format {form}: it is one of {', '.join(catalogue.FORMATS)}")
    if only is not None and form != "csv":
        raise BadInput("--table goes with --format csv")
    if last is not None and last not in period.SPANS:
        raise BadInput(f"--last {last}: it is one of {', '.join(period.SPANS)}")
    return form, last


def _besides(name: str, files: list[Path], digest: str | None, output: Path | None) -> int:
    """Do what is no report; return the exit code."""
    if name == "check":
        return own_reports.check(files)
    if name == "apply":
        own_reports.apply(files)
    elif files:
        raise BadInput(f"{files[0]}: files go with `smartops report check` and `apply`")
    elif name == "kept":
        _kept(digest, output)
    else:
        from reports import catalogue  # noqa: PLC0415 - slow to import

        out.print(table(["report", "about"], [_listed(each) for each in catalogue.names()]))
    return 0


def _listed(name: str) -> tuple[str, str]:
    """Return a report with what it tells, or with what is wrong with its file."""
    from reports import catalogue  # noqa: PLC0415 - slow to import

    try:
        return name, catalogue.find(name).description
    except BadInput as error:
        return name, f"cannot be used: {error}"


def _kept(digest: str | None, output: Path | None) -> None:
    """List the reports that were kept, or write one as it was."""
    from smartops.audit import kept_reports  # noqa: PLC0415 - slow to import

    with audit_store() as store:
        if digest is not None:
            if output is None:
                raise BadInput("--hash needs -o: where the report is to be written")
            _write(kept_reports.content_of(store, digest), output)
            return
        rows = [
            (
                *(one.name, local_time(one.period_from), one.media_type.partition(";")[0]),
                *(one.bytes, one.sha256[:12], local_time(one.made_at)),
            )
            for one in kept_reports.kept(store)
        ]
    out.print(table(["report", "from", "format", "bytes", "hash", "made"], rows))


def _write(made: bytes, path: Path) -> None:
    if str(path) == "-":
        sys.stdout.buffer.write(made)
        return
    try:
        path.write_bytes(made)
    except OSError as error:
        raise BadInput(f"-o {path}: {error.strerror or error}") from None
    out.print(f"{path}: {len(made)} bytes")
