"""Reads tag maps from files: YAML lists, and CSV as it is exported from PLC tools."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from smartops.drivers.device_tag import DeviceTag, check_names
from smartops.drivers.tags import Tag, check_map
from smartops.errors import BadInput
from smartops.plain_yaml import PlainLoader, plain_value
from smartops.yaml_problems import first_problem

T = TypeVar("T", bound=DeviceTag)
_DELIMITERS = ",;\t"
_STRUCTURED = ("enum", "interlocks", "not_available")


class _MapLoader(PlainLoader):
    """Plain YAML with hexadecimal numbers, as manuals of devices have them."""


_MapLoader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+)\Z"),
    list("-+0123456789"),
)


def load_tags(path: Path) -> tuple[Tag, ...]:
    """Return the Modbus tags of a YAML file (a list) or a CSV file (a header, a tag per line).

    In CSV, columns may be separated by comma, semicolon or tab; ``enum``, ``interlocks`` and
    ``not_available`` hold YAML. Raises BadInput, naming file and tag.
    """
    return load_map(path, Tag, check_map)


def load_map(
    path: Path, kind: type[T], check: Callable[[Iterable[T]], None] = check_names
) -> tuple[T, ...]:
    """Return the tags of a file, of any protocol. Raises BadInput, naming file and tag."""
    try:
        csv_like = path.suffix.lower() in {".csv", ".tsv", ".txt"}
        rows = _csv_rows(path) if csv_like else plain_value(path.read_text("utf-8"), _MapLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, csv.Error) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    try:
        tags = TypeAdapter(tuple[kind, ...]).validate_python(rows)  # type: ignore[valid-type]
        check(tags)
    except ValidationError as error:
        raise BadInput(f"{path}: tag {first_problem(error)}") from None
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None
    return tuple(tags)


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        header = lines.readline()
        lines.seek(0)
        delimiter = max(_DELIMITERS, key=header.count)
        return [_row(row) for row in csv.DictReader(lines, delimiter=delimiter)]


def _row(row: dict[str, Any]) -> dict[str, Any]:
    found = {name.strip(): value for name, value in row.items() if name and value not in {"", None}}
    for name in _STRUCTURED:
        if isinstance(found.get(name), str):
            found[name] = plain_value(found[name], _MapLoader)
    return found
