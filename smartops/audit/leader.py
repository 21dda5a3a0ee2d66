"""One of many: who looks after what belongs to all machines, such as schedules and foreign runs.

On a server it is who holds a named lock, which is free when its connection ends; with SQLite there
is only this machine, and one reconciler on it.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from smartops.audit.store import Store

_NAME = "smartops_reconciler"
_SILENCE_S = 30
"""How long the server waits for a word of the one; then somebody else may be it."""


class Leader:
    """This process's claim to be the one."""

    def __init__(self, store: Store, name: str = _NAME) -> None:
        self._store = store
        self._name = name
        self._held: Connection | None = None

    def is_me(self) -> bool:
        """Return whether this process is the one; try to become it. Raises StoreUnavailable."""
        if not self._store.is_server:
            return True
        try:
            if self._held is not None:
                self._held.execute(sa.text("SELECT 1"))
                self._held.commit()
                return True
            return self._take()
        except DBAPIError as error:
            self.release()
            raise self._store.unavailable(error) from error

    def _take(self) -> bool:
        connection = self._store.engine.connect()
        # The name holds for the whole server: databases beside each other have their own.
        name = f"{self._name}.{self._store.url.database}"[:64]
        taken = connection.execute(sa.text("SELECT GET_LOCK(:name, 0)"), {"name": name}).scalar()
        connection.commit()
        if taken == 1:
            # A machine that has gone does not close its connection: the server does.
            connection.execute(sa.text(f"SET SESSION wait_timeout = {_SILENCE_S}"))
            connection.commit()
            self._held = connection
            return True
        connection.close()
        return False

    def release(self) -> None:
        """Let somebody else be the one."""
        if self._held is not None:
            self._held.invalidate()
            self._held.close()
            self._held = None
