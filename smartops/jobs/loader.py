"""Job files: YAML (or JSON, which is YAML) to a JobSpec; errors name file, line and field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from smartops.errors import JobFileError
from smartops.jobs import graph
from smartops.jobs.spec import STEP_KINDS, JobSpec
from smartops.plain_yaml import PlainLoader

SUFFIXES = (".yaml", ".yml", ".json")
_BIGGEST_FILE = 1_000_000
_UNION_BRANCHES = ("bool", "int", "float", "str", "none")
_UNION_TAGS = frozenset(STEP_KINDS) | {"goto", "fill", "click", "expect", "extract", "screenshot"}


@dataclass(frozen=True)
class FileProblem:
    """One thing that is wrong in a job file. ``field`` is empty where it is not about one."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        """Return ``file:line: field: message``."""
        field = f"{self.field}: " if self.field else ""
        return f"{self.file}:{self.line}: {field}{self.message}"


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
    data, root = _parse(text, name)
    if not isinstance(data, dict):
        raise JobFileProblems([FileProblem(name, 1, "", "a job is a mapping: name, steps, ...")])
    try:
        job = JobSpec.model_validate(data)
        graph.compile(job)
    except RecursionError:
        raise JobFileProblems([FileProblem(name, 1, "", "too deeply nested")]) from None
    except ValidationError as error:
        raise JobFileProblems(list(_explain(error, name, root))) from None
    except graph.JobProblems as error:
        problems = [
            FileProblem(name, _line(root, p.path), _dotted(p.path), p.message)
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


def _parse(text: str, name: str) -> tuple[Any, yaml.Node | None]:
    loader = None
    try:
        loader = PlainLoader(text)
        root = loader.get_single_node()
        return (loader.construct_document(root) if root is not None else None), root
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        said = f"{error.context}, {error.problem}" if error.context else f"{error.problem}"
        raise JobFileProblems([FileProblem(name, line, "", said)]) from None
    except RecursionError:
        raise JobFileProblems([FileProblem(name, 1, "", "too deeply nested")]) from None
    except (yaml.YAMLError, ValueError) as error:
        text = " ".join(str(error).split())
        raise JobFileProblems([FileProblem(name, 1, "", f"not YAML: {text}")]) from None
    finally:
        if loader is not None:
            loader.dispose()


def _explain(error: ValidationError, name: str, root: yaml.Node | None) -> Iterator[FileProblem]:
    for detail in error.errors(include_url=False, include_context=True):
        if detail["type"] == "too_short" and detail["input"]:
            continue  # pydantic's echo of an item that was reported on its own line
        location = detail["loc"]
        path = tuple(
            part
            for index, part in enumerate(location)
            if not (part in _UNION_TAGS and index and isinstance(location[index - 1], int))
        )
        if path and path[-1] in _UNION_BRANCHES:
            path = path[:-1]
        yield FileProblem(name, _line(root, path), _dotted(path), _message(detail))


def _message(detail: Any) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return "there is no such field"
        case "missing":
            return "is missing"
        case "union_tag_invalid":
            given = detail["ctx"]
            known = given["expected_tags"].replace("'", "")
            return (
                f"unknown {given['discriminator'].strip(chr(39))} {given['tag']!r}; known: {known}"
            )
        case "union_tag_not_found":
            return f"{detail['ctx']['discriminator'].strip(chr(39))} is missing"
        case "string_pattern_mismatch":
            return f"{detail['input']!r} does not match {detail['ctx']['pattern']}"
        case "tuple_type":
            return "a list is wanted"
        case "too_short":
            return "at least one item is wanted"
        case "time_delta_type" | "time_delta_parsing":
            return "a duration such as 5s, 2m or 1h30m is wanted"
        case "value_error":
            return str(detail["ctx"]["error"])
        case _:
            return str(detail["msg"])


def _dotted(path: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in path)


def _line(root: yaml.Node | None, path: Sequence[str | int]) -> int:
    """Return the line of the deepest node on the path that exists, counted from 1."""
    node, line = root, (root.start_mark.line + 1 if root else 1)
    for part in path:
        child = _child(node, part)
        if child is None:
            break
        node, line = child
    return line


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item = node.value[part]
        return item, item.start_mark.line + 1
    return None
