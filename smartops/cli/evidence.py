"""``smartops run evidence``: all that there is of a run, in one file."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from smartops import evidence_store
from smartops.cli.connection import audit_store
from smartops.cli.options import AsJson
from smartops.cli.output import out, print_json
from smartops.errors import BadInput
from smartops.file_names import file_name
from smartops.whole_zip import new_zip

if TYPE_CHECKING:
    from reports.evidence import Evidence
    from reports.runs import RunDetail
    from smartops.audit.store import Store

_WHOLE = "whole"


def evidence(
    run: Annotated[str, typer.Argument(help="The run's id, or the first part of it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The ZIP file to write.")],
    as_json: AsJson = False,
) -> None:
    """Write a run's record and its evidence to a file; exit 1 where some of it is not whole."""
    from reports.evidence import evidence_of  # noqa: PLC0415 - slow to import
    from reports.runs import get_run  # noqa: PLC0415

    if output.exists():
        raise BadInput(f"{output} is there already; name another file")
    with audit_store() as store:
        detail = get_run(store, run)
        found = evidence_of(store, detail.run.run_id)
        states = _write(store, output, detail, found)
    bad = [f"{name} is {state}" for name, state in states.items() if state != _WHOLE]
    if as_json:
        print_json({"file": str(output), "run_id": str(detail.run.run_id), "files": states})
    else:
        out.print(f"{output}: the record, {len(found)} files of evidence")
        for line in bad:
            out.print(line)
    if bad:
        raise typer.Exit(1)


def _write(
    store: Store, output: Path, detail: RunDetail, found: tuple[Evidence, ...]
) -> dict[str, str]:
    """Write the file; return what has become of each piece of evidence."""
    states: dict[str, str] = {}
    manifest: list[dict[str, Any]] = []
    with new_zip(output) as to:
        to.writestr("run.json", _text(detail.as_json()))
        _add_record(store, to, detail)
        for piece in found:
            name = f"evidence/{file_name(piece.step)}/{piece.step_run_id}/{piece.name}"
            content, states[name] = _read(piece)
            if content is not None:
                to.writestr(name, content)
            manifest.append({"file": name, "state": states[name], **asdict(piece)})
        to.writestr("evidence.json", _text(manifest))
    return states


def _add_record(store: Store, to: zipfile.ZipFile, detail: RunDetail) -> None:
    """Add the run's part of the record, which proves itself; a run of just now has none yet."""
    from smartops.audit import export  # noqa: PLC0415 - slow to import

    with tempfile.TemporaryDirectory(prefix="smartops-") as folder:
        path = Path(folder) / "record.zip"
        try:
            export.export(store, path, detail.run.run_id)
        except BadInput as error:
            to.writestr("record.txt", f"The record is not sealed yet: {error}\n")
        else:
            to.write(path, "record.zip")


def _read(piece: Evidence) -> tuple[bytes | None, str]:
    try:
        content = evidence_store.read(piece.place)
    except FileNotFoundError:
        return None, "missing"
    except OSError as error:
        return None, f"out of reach ({error})"
    same = hashlib.sha256(content).hexdigest() == piece.sha256
    return content, _WHOLE if same else "changed"


def _text(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)


def add_to(app: typer.Typer) -> None:
    """Add the command to ``smartops run``."""
    app.command("evidence")(evidence)
