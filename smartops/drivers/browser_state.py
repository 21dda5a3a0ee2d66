"""What a site keeps in the browser (cookies, local storage), encrypted on disk between runs."""

from __future__ import annotations

import json
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography.fernet import Fernet, InvalidToken

from smartops.errors import BadInput
from smartops.file_names import file_name
from smartops.settings import get_settings

logger = logging.getLogger(__name__)


def load(name: str) -> dict[str, Any] | None:
    """Return what was kept under a profile's name; None where there is nothing that can be read.

    Raises BadInput for a key that is none, or that others may read.
    """
    try:
        sealed = _path(name).read_bytes()
    except FileNotFoundError:
        return None
    try:
        found: dict[str, Any] = json.loads(_fernet().decrypt(sealed))
    except (InvalidToken, ValueError):
        logger.warning("the kept session of %s has another key or is damaged: it is left out", name)
        return None
    return found


def save(name: str, state: Any) -> None:
    """Keep a state under a profile's name, in place of the one before. Raises BadInput, OSError."""
    path = _path(name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(path, _fernet().encrypt(json.dumps(state).encode()), replace=True)


def forget(name: str) -> None:
    """Keep nothing under a profile's name."""
    _path(name).unlink(missing_ok=True)


def _path(name: str) -> Path:
    return get_settings().home / "browser-sessions" / f"{file_name(name)}.state"


def _fernet() -> Fernet:
    given = get_settings().browser_key
    try:
        return Fernet(given.get_secret_value() if given else _own_key())
    except ValueError:
        where = "SMARTOPS_BROWSER_KEY" if given else str(_key_file())
        raise BadInput(
            f"{where} is no key for browser sessions",
            hint="It has 32 random bytes in URL-safe base64.",
        ) from None


def _key_file() -> Path:
    return get_settings().home / "browser.key"


def _own_key() -> bytes:
    """Return the key of this home folder; the first who wants one makes it."""
    path = _key_file()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, Fernet.generate_key(), replace=False)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise BadInput(f"{path} may be read by others", hint=f"Call `chmod 600 {path}`.")
    return path.read_bytes()


def _write(path: Path, content: bytes, *, replace: bool) -> None:
    """Write a file whole or not at all, for the owner alone."""
    new = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            new.replace(path)
        else:
            with suppress(FileExistsError):  # another process was first
                path.hardlink_to(new)
    finally:
        new.unlink(missing_ok=True)
