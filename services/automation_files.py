"""Automations of Prefect as files: its own document, in which what it acts on has its name.

``job: NAME`` with ``params``, ``deployment: FLOW/NAME`` or ``block: TYPE/NAME`` of an action stand
for the ids that Prefect wants.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from prefect.events.actions import Action, ActionTypes
from prefect.events.schemas.automations import AutomationCore
from pydantic import BaseModel, ValidationError

from smartops.errors import BadInput
from smartops.plain_yaml import plain_value

ACTION_LISTS = ("actions", "actions_on_trigger", "actions_on_resolve")
NAMES = {"job": "deployment_id", "deployment": "deployment_id", "block": "block_document_id"}
"""What names something in an action, and where Prefect has its id."""
_KINDS: dict[str, type[Action]] = {
    kind.model_fields["type"].default: kind for kind in get_args(ActionTypes)
}
_ENDINGS = (".yaml", ".yml")
_OURS = ("owner_resource", "tags")
_NO_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class AutomationFile:
    """An automation as its file says it."""

    path: Path
    document: dict[str, Any]

    @property
    def name(self) -> str:
        """The automation's name."""
        return str(self.document["name"])

    @property
    def says_enabled(self) -> bool:
        """Whether the file says whether it is to fire; else that is left as it is."""
        return "enabled" in self.document

    def wrong(self, where: str, what: str) -> BadInput:
        """Return the error that something in the file is wrong."""
        return BadInput(f"{self.path}: {where}: {what}")


def files_in(paths: list[Path]) -> list[Path]:
    """Return the files that are named, and those of the folders that are."""
    found: list[Path] = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix in _ENDINGS)
        found += inside
    return found


def load(path: Path) -> AutomationFile:
    """Read and check a file. Raises BadInput, which names the file and the place in it."""
    try:
        document = plain_value(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise BadInput(f"{path}: holds no automation: write name, trigger and actions")
    file = AutomationFile(path, document)
    for name in _OURS:
        if name in document:
            raise file.wrong(name, "is not for you to say")
    # With ids in the places of names it is what Prefect takes; that they exist is found out later.
    parsed(file, _with_ids(file))
    return file


def _with_ids(file: AutomationFile) -> dict[str, Any]:
    document = dict(file.document)
    for part in ACTION_LISTS:
        actions = document.get(part, [])
        if not isinstance(actions, list):
            raise file.wrong(part, "is no list")
        document[part] = [
            _action(file, f"{part}.{number}", action) for number, action in enumerate(actions)
        ]
    return document


def _action(file: AutomationFile, where: str, action: Any) -> dict[str, Any]:
    if not isinstance(action, dict):
        raise file.wrong(where, "is no mapping with a type")
    named = [name for name in NAMES if name in action]
    if len(named) > 1 or any(NAMES[name] in action for name in named):
        raise file.wrong(where, f"{' and '.join(named)}: one name or one id is enough")
    params = "params" in action
    if params and (action.get("type") != "run-deployment" or named != ["job"]):
        raise file.wrong(where, "params go with a job that is run")
    plain = {key: value for key, value in action.items() if key not in {*NAMES, "params"}}
    if named:
        plain[NAMES[named[0]]] = _NO_ID
    if named == ["job"] and plain.get("type") == "run-deployment":
        if "parameters" in plain:
            raise file.wrong(where, "a job has params, and no parameters of a flow")
        plain["parameters"] = {"params": action.get("params", {})}
    kind = _KINDS.get(str(plain.get("type")))
    if kind is None:
        raise file.wrong(f"{where}.type", f"is one of {', '.join(sorted(_KINDS))}")
    _checked(file, kind, plain, f"{where}.")
    return plain


def parsed(file: AutomationFile, document: dict[str, Any]) -> AutomationCore:
    """Return what Prefect understands, and nothing passed over. Raises BadInput."""
    found: AutomationCore = _checked(file, AutomationCore, document, "")
    return found


def _checked(file: AutomationFile, kind: type[Any], document: dict[str, Any], place: str) -> Any:
    try:
        found: BaseModel = kind.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise file.wrong(f"{place}{where}".strip("."), said) from None
    unknown = _unknown(document, found.model_dump(mode="json"))
    if unknown:
        raise file.wrong(f"{place}{unknown}", "Prefect knows no such field")
    return found


def _unknown(given: Any, taken: Any) -> str:
    """Return the first key that was given and not taken: Prefect passes over what it knows not."""
    if isinstance(given, dict) and isinstance(taken, dict):
        for key, value in given.items():
            if key not in taken:
                return str(key)
            inner = _unknown(value, taken[key])
            if inner:
                return f"{key}.{inner}"
    if isinstance(given, list) and isinstance(taken, list):
        for number, (one, other) in enumerate(zip(given, taken, strict=False)):
            inner = _unknown(one, other)
            if inner:
                return f"{number}.{inner}"
    return ""
