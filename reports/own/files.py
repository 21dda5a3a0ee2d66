"""The files of users' own reports: ``reports/*.yaml`` in the deployments folder."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from pydantic import ValidationError

from reports.own.spec import NAME_PATTERN, OwnReport
from smartops.errors import BadInput
from smartops.settings import get_settings
from smartops.yaml_problems import FileProblem, FileProblems, dotted, explain, line_of, parse

_BIGGEST_FILE = 1_000_000


def folder() -> Path:
    """Return where they are."""
    return get_settings().deployments / "reports"


def names() -> list[str]:
    """Return the names of all that are there, as their files are called."""
    return sorted(path.stem for path in folder().glob("*.yaml"))


def find(name: str) -> Path | None:
    """Return the file of a report, None where there is none."""
    path = folder() / f"{name}.yaml"
    return path if re.fullmatch(NAME_PATTERN, name) and path.is_file() else None


def load(path: Path) -> OwnReport:
    """Return the report of a file. Raises FileProblems: file, line, field, what is wanted."""
    name = str(path)
    try:
        if path.stat().st_size > _BIGGEST_FILE:
            raise BadInput(f"{name} is larger than {_BIGGEST_FILE:,} bytes: no report")
        data, root = parse(path.read_text("utf-8-sig"), name)
    except UnicodeDecodeError:
        raise BadInput(f"{name} is not a text in UTF-8") from None
    except OSError as error:
        raise BadInput(f"{name} cannot be read: {error.strerror}") from None
    if not isinstance(data, dict):
        raise FileProblems([FileProblem(name, 1, "", "a report is a mapping: name, queries, ...")])
    try:
        report = OwnReport.model_validate(data)
    except RecursionError:
        raise FileProblems([FileProblem(name, 1, "", "too deeply nested")]) from None
    except ValidationError as error:
        raise FileProblems(list(explain(error, name, root))) from None
    if report.name != path.stem:
        raise problem(path, ("name",), f"{report.name!r} is not what the file is called")
    return report


def problem(path: Path, where: tuple[str, ...], said: str) -> FileProblems:
    """Return what is wrong in a file that can be read, with its line."""
    _, root = parse(path.read_text("utf-8-sig"), str(path))
    return FileProblems([FileProblem(str(path), line_of(root, where), dotted(where), said)])


def revision(path: Path) -> str:
    """Return which text of a report this is: its SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
