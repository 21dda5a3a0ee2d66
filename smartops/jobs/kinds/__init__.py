"""The step kinds: one module each, and those that plugins add.

A plugin is a Python module, named in ``SMARTOPS_PLUGINS`` or by an entry point of the group
``smartops.plugins``. When it is imported it registers its kinds with :func:`register`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TypeVar

from smartops.errors import BadInput
from smartops.jobs.step import StepBase
from smartops.settings import get_settings

BUILT_IN = (
    "rest",
    "modbus",
    "opcua",
    "mqtt",
    "serial_line",
    "browser",
    "wait",
    "check",
    "quality",
    "approval",
    "job",
    "python",
    "rest_lists",
    "rest_files",
)
K = TypeVar("K", bound=StepBase)
STEP_KINDS: dict[str, type[StepBase]] = {}
"""The kinds that are loaded so far, by name."""


def register(kind: type[K]) -> type[K]:
    """Add a step kind (a subclass of StepBase whose ``kind`` has a default). A decorator."""
    name = kind.model_fields["kind"].default
    if not isinstance(name, str):
        raise TypeError(f"{kind.__name__}.kind needs a Literal with a default")
    known = STEP_KINDS.get(name)
    if known is not None and known.__qualname__ != kind.__qualname__:
        raise BadInput(f"step kind {name!r} is defined by {known.__name__} and {kind.__name__}")
    STEP_KINDS[name] = kind
    return kind


def plugin_modules() -> tuple[str, ...]:
    """Return the names of the plugin modules, from the entry points and from the settings."""
    found = [entry.value for entry in entry_points(group="smartops.plugins")]
    return tuple(dict.fromkeys([*found, *get_settings().plugin_modules]))


def _import(name: str, load: Callable[[str], object] = importlib.import_module) -> None:
    try:
        load(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise BadInput(
            f"plugin module {name!r} is not importable", hint="Check SMARTOPS_PLUGINS."
        ) from error


def load_kinds() -> dict[str, type[StepBase]]:
    """Import all kinds, built in and from plugins, and return them by name."""
    for name in BUILT_IN:
        importlib.import_module(f"smartops.jobs.kinds.{name}")
    for name in plugin_modules():
        _import(name)
    ordered = sorted(STEP_KINDS.items(), key=lambda item: _place(item[1]))
    STEP_KINDS.clear()
    STEP_KINDS.update(ordered)
    return STEP_KINDS


def _place(kind: type[StepBase]) -> int:
    """Return where a kind stands in lists and in the form, however the modules were imported."""
    package, _, module = kind.__module__.rpartition(".")
    return BUILT_IN.index(module) if package == __name__ else len(BUILT_IN)
