"""Looks for each thing that SmartOps needs here, and names the cure for what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from services import stack
from smartops.audit import schema
from smartops.audit.anchors import anchors_of
from smartops.audit.keys import signing_key
from smartops.audit.store import Store
from smartops.drivers.browser import find_executable
from smartops.errors import SmartOpsError
from smartops.plant import mosquitto
from smartops.settings import get_settings

_LEAST_FREE_BYTES = 500_000_000


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for: what was found, or what to do."""

    what: str
    ok: bool
    found: str = ""
    cure: str = ""


def examine() -> list[Finding]:
    """Return a finding for each thing; none of the looks changes anything."""
    looks: tuple[Callable[[], Finding], ...] = (
        _python,
        _packages,
        _home,
        _disk,
        _database,
        _walls,
        _seals,
        _browser,
        _broker,
        _prefect,
    )
    return [look() for look in looks]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("Python", ok, f"{version} at {sys.executable}", "Use Python 3.11 to 3.13.")


def _packages() -> Finding:
    names = ("prefect", "fastapi", "pymodbus", "playwright", "sqlalchemy")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return Finding("packages", True, versions)


def _home() -> Finding:
    home = get_settings().home
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    ok = existing.is_dir() and os.access(existing, os.W_OK)
    return Finding("home folder", ok, str(home) if ok else "", f"Make {home} writable.")


def _disk() -> Finding:
    home = get_settings().home
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    ok = free > _LEAST_FREE_BYTES
    return Finding("disk", ok, f"{free // 1_000_000:,} MB free", "Free 500 MB for the journal.")


def _database() -> Finding:
    try:
        store = Store(get_settings().store_url)
        url = store.url
        if url.get_backend_name() == "sqlite" and not os.path.exists(url.database or ""):  # noqa: PTH110
            return Finding("audit store", True, f"{store.shown_url}, made at the first run")
        version = schema.current_version(store)
        store.close()
    except SmartOpsError as error:
        return Finding("audit store", False, cure=error.one_line)
    expected = schema.expected_version()
    ok = version == expected
    found = f"{store.shown_url}, version {version}"
    return Finding("audit store", ok, found if ok else "", "Run `smartops audit migrate`.")


def _walls() -> Finding:
    what = "append-only"
    try:
        store = Store(get_settings().store_url)
        url = store.url
        new = url.get_backend_name() == "sqlite" and not os.path.exists(url.database or "")  # noqa: PTH110
        if new or schema.current_version(store) != schema.expected_version():
            return Finding(what, True, "made with the tables")
        missing = schema.missing_guards(store)
        store.close()
    except SmartOpsError as error:
        return Finding(what, False, cure=error.one_line)
    cure = "Let an administrator run `smartops audit migrate`; see docs/how-to/audit.md."
    found = "triggers refuse to change or delete the record"
    return Finding(what, not missing, found if not missing else "", cure)


def _seals() -> Finding:
    settings = get_settings()
    try:
        names = ", ".join(anchor.name for anchor in anchors_of(settings))
        key = settings.keys_dir / "seal.key"
        made = "key in" if key.exists() else "key will be made in"
        if key.exists():
            signing_key(settings.keys_dir)
    except SmartOpsError as error:
        return Finding("seals", False, cure=error.one_line)
    return Finding("seals", True, f"{made} {settings.keys_dir}, published to {names}")


def _browser() -> Finding:
    try:
        found = find_executable()
    except SmartOpsError as error:
        return Finding("browser", False, cure=error.one_line)
    cure = "Debian: apt-get install chromium; elsewhere: playwright install chromium."
    return Finding("browser", found is not None, str(found or ""), cure)


def _broker() -> Finding:
    none = f"{mosquitto.MISSING} (its jobs by MQTT need it)"
    return Finding("plant's broker", True, mosquitto.find_executable() or none)


def _prefect() -> Finding:
    given = os.environ.get("PREFECT_API_URL")
    if given:
        ok = stack.answers(given)
        cure = f"Start the server of PREFECT_API_URL={given}, or unset it to use our own."
        return Finding("Prefect", ok, given if ok else "", cure)
    running = stack.find()
    where = running.ui_url if running and running.alive() else "an own server, started by `up`"
    return Finding("Prefect", True, where)
