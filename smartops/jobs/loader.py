"""Job files: YAML (or JSON, which is YAML) to a JobSpec; errors name file, line and field."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from smartops import yaml_problems
from smartops.errors import JobFileError
from smartops.jobs import graph
from smartops.jobs.spec import STEP_KINDS, JobSpec
from smartops.yaml_problems import FileProblem, FileProblems, dotted, line_of

SUFFIXES = (".yaml", ".yml", ".json")
_BIGGEST_FILE = 1_000_000
_UNION_TAGS = frozenset(STEP_KINDS) | {"goto", "fill", "click", "expect", "extract", "screenshot"}


class JobFileProblems(JobFileError):
    """A job file with problems; ``problems`` has all of them."""

    def __init__(self, problems: Sequence[FileProblem]) -> None:
        more = f" (and {len(problems) - 1} more: see `smartops job lint`)" if problems[1:] else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems = tuple(problems)


def load(path: Path | str) -> JobSpec:
    """Return the job of a file, validated and compiled.

    Raises JobFileError when there is no such file, JobFileProblems for what stands in it.
    """
    name = str(path)
    return loads(_read(Path(path), name), name)


def loads(text: str, name: str = "<text>") -> JobSpec:
    """Return the job of a text; ``name`` stands in errors. Raises JobFileProblems."""
    try:
        data, root = yaml_problems.parse(text, name)
    except FileProblems as error:
        raise JobFileProblems(error.problems) from None
    if not isinstance(data, dict):
        raise JobFileProblems([FileProblem(name, 1, "", "a job is a mapping: name, steps, ...")])
    try:
        job = JobSpec.model_validate(data)
        graph.compile(job)
    except RecursionError:
        raise JobFileProblems([FileProblem(name, 1, "", "too deeply nested")]) from None
    except ValidationError as error:
        raise JobFileProblems(list(yaml_problems.explain(error, name, root, _UNION_TAGS))) from None
    except graph.JobProblems as error:
        problems = [
            FileProblem(name, line_of(root, p.path), dotted(p.path), p.message)
            for p in error.problems
        ]
        raise JobFileProblems(problems) from None
    return job


def job_files(folder: Path) -> list[Path]:
    """Return the job files of a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())


def _read(path: Path, name: str) -> str:
    try:
        if path.stat().st_size > _BIGGEST_FILE:
            raise JobFileError(f"{name} is larger than {_BIGGEST_FILE:,} bytes: no job file")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise JobFileError(f"{name} is not a text in UTF-8") from None
    except OSError as error:
        raise JobFileError(f"{name} cannot be read: {error.strerror}") from None
