"""What is wrong in a YAML file: each problem with its line, its field, and what is wanted."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from smartops.errors import BadInput
from smartops.plain_yaml import PlainLoader

_UNION_BRANCHES = ("bool", "int", "float", "str", "none")


@dataclass(frozen=True)
class FileProblem:
    """One thing that is wrong in a file. ``field`` is empty where it is not about one."""

    file: str
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        """Return ``file:line: field: message``."""
        field = f"{self.field}: " if self.field else ""
        return f"{self.file}:{self.line}: {field}{self.message}"


class FileProblems(BadInput):
    """A file with problems; ``problems`` has all of them."""

    def __init__(self, problems: Sequence[FileProblem]) -> None:
        more = f" (and {len(problems) - 1} more)" if problems[1:] else ""
        super().__init__(f"{problems[0]}{more}")
        self.problems = tuple(problems)


def parse(text: str, name: str) -> tuple[Any, yaml.Node | None]:
    """Return what a YAML text means, and its nodes. Raises FileProblems."""
    loader = None
    try:
        loader = PlainLoader(text)
        root = loader.get_single_node()
        return (loader.construct_document(root) if root is not None else None), root
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        said = f"{error.context}, {error.problem}" if error.context else f"{error.problem}"
        raise FileProblems([FileProblem(name, line, "", said)]) from None
    except RecursionError:
        raise FileProblems([FileProblem(name, 1, "", "too deeply nested")]) from None
    except (yaml.YAMLError, ValueError) as error:
        text = " ".join(str(error).split())
        raise FileProblems([FileProblem(name, 1, "", f"not YAML: {text}")]) from None
    finally:
        if loader is not None:
            loader.dispose()


def explain(
    error: ValidationError, name: str, root: yaml.Node | None, tags: Collection[str] = ()
) -> Iterator[FileProblem]:
    """Yield what a model says of a file; ``tags`` are the names of members of unions."""
    for detail in error.errors(include_url=False, include_context=True):
        if detail["type"] == "too_short" and detail["input"]:
            continue  # pydantic's echo of an item that was reported on its own line
        location = detail["loc"]
        path = tuple(
            part
            for index, part in enumerate(location)
            if not (part in tags and index and isinstance(location[index - 1], int))
        )
        if path and path[-1] in _UNION_BRANCHES:
            path = path[:-1]
        yield FileProblem(name, line_of(root, path), dotted(path), _message(detail))


def first_problem(error: ValidationError) -> str:
    """Return the first thing that is wrong with a document, behind where it stands in it."""
    first = error.errors(include_url=False)[0]
    where = dotted(first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


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


def dotted(path: Sequence[str | int]) -> str:
    """Return where something stands, such as ``steps.2.kind``."""
    return ".".join(str(part) for part in path)


def line_of(root: yaml.Node | None, path: Sequence[str | int]) -> int:
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
