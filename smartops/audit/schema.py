"""Brings the audit store's tables to the version of this program."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from filelock import FileLock, Timeout
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from smartops.audit.migrations import guarding
from smartops.audit.store import Store
from smartops.errors import BadInput, StoreUnavailable
from smartops.settings import get_settings

_FOLDER = Path(__file__).with_name("migrations")
_LOCK_NAME = "smartops_migrate"
_LOCK_S = 20  # below the store's read timeout


def expected_version() -> str:
    """Return the version that this program works with."""
    head = ScriptDirectory(str(_FOLDER)).get_current_head()
    if head is None:
        raise RuntimeError("the program was built without its migrations")
    return head


def current_version(store: Store) -> str | None:
    """Return the store's version, None where there are no tables yet. Raises StoreUnavailable."""
    with store.reading() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def missing_guards(store: Store) -> list[str]:
    """Return the names of the triggers that should guard the record and are not there."""
    with store.reading() as connection:
        return sorted(set(guarding.trigger_names()) - guarding.present(connection))


def guard_again(store: Store) -> bool:
    """Make the triggers that are missing; return whether any was. Raises StoreUnavailable."""
    if not missing_guards(store):
        return False
    with store.transaction() as connection:
        guarding.guard(connection)
    return not missing_guards(store)


def migrate(store: Store) -> bool:
    """Bring the store up to date; return whether anything was to be done.

    Safe to call from many processes at once: one of them migrates, the others wait.
    Raises StoreUnavailable, also for a store that a later version of the program has migrated.
    """
    if store.url.get_backend_name() == "sqlite" and store.url.database:
        folder = Path(store.url.database).parent
        if folder == get_settings().home:
            folder.mkdir(parents=True, exist_ok=True)
        elif not folder.is_dir():
            raise BadInput(f"SMARTOPS_DATABASE_URL: there is no folder {folder}")
    if current_version(store) == expected_version():
        return False
    with _alone(store) as connection:
        version = MigrationContext.configure(connection).get_current_revision()
        connection.rollback()
        if version == expected_version():
            return False
        known = {script.revision for script in ScriptDirectory(str(_FOLDER)).walk_revisions()}
        if version is not None and version not in known:
            raise StoreUnavailable(
                f"the audit store {store.shown_url} has schema {version}, which is newer than this "
                "program",
                hint="Update SmartOps on this machine.",
            )
        command.upgrade(_config(connection), "head")
        connection.commit()
    return True


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _alone(store: Store) -> Iterator[Connection]:
    """Give a connection while no other process migrates the same store."""
    try:
        if store.url.get_backend_name() == "sqlite":
            home = Path(store.url.database or get_settings().home / "memory")
            with FileLock(f"{home}.migrate", timeout=_LOCK_S), store.engine.connect() as alone:
                yield alone
        else:
            with (
                store.patient() as patient,
                patient.engine.connect() as holder,
                patient.engine.connect() as connection,
            ):
                yield from _with_server_lock(holder, connection)
    except Timeout as error:
        raise _busy() from error
    except DBAPIError as error:
        raise store.unavailable(error) from error


def _with_server_lock(holder: Connection, connection: Connection) -> Iterator[Connection]:
    taken = holder.execute(
        sa.text("SELECT GET_LOCK(:name, :seconds)"), {"name": _LOCK_NAME, "seconds": _LOCK_S}
    ).scalar()
    if taken != 1:
        raise _busy()
    try:
        yield connection
    finally:
        holder.execute(sa.text("SELECT RELEASE_LOCK(:name)"), {"name": _LOCK_NAME})


def _busy() -> StoreUnavailable:
    return StoreUnavailable(f"another process has been migrating for more than {_LOCK_S} s")
