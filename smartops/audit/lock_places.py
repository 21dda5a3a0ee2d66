"""Who holds a lock among machines, uses a hold of another, or waits: a row for each connection."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby

import sqlalchemy as sa

from smartops.audit.lock_tables import lock_place
from smartops.audit.store import Store
from smartops.locks import Actor, Ticket

_USED = " used by "
ALIVE = (
    sa.text("SELECT id FROM information_schema.processlist")
    .columns(sa.column("id"))
    .scalar_subquery()
)
"""The server's connections; a row of another one is a dead one's."""


def use_of(resource: str, hold: str) -> str:
    """Return under which name whoever uses a hold stands: who has it, and whom it was handed to."""
    return f"{resource}{_USED}{hold}"


def is_of(resource: str) -> sa.ColumnElement[bool]:
    """Return what the rows of a resource have in common."""
    name = lock_place.c.resource
    return (name == resource) | name.startswith(use_of(resource, ""), autoescape=True)


def by_others(resource: str, hold: str = "") -> sa.Select[tuple[int]]:
    """Return a query for the others who use a resource by this hold, or by any."""
    name = lock_place.c.resource.startswith(use_of(resource, hold), autoescape=True)
    others = lock_place.c.connection != sa.func.connection_id()
    return sa.select(lock_place.c.id).where(name, others, lock_place.c.connection.in_(ALIVE))


def placed(resource: str, actor: Actor) -> sa.Insert:
    """Return a statement that makes a row of this connection's."""
    return sa.insert(lock_place).values(
        connection=sa.func.connection_id(),
        resource=resource,
        host=socket.gethostname(),
        pid=os.getpid(),
        run=actor.run,
        job=actor.job,
        step=actor.step,
        since=datetime.now(UTC),
        held=False,
    )


def mine() -> sa.ColumnElement[bool]:
    """Return what the rows of this connection have in common."""
    return lock_place.c.connection == sa.func.connection_id()


def queues(store: Store) -> Iterator[list[Ticket]]:
    """Yield for each resource that is held who holds it and who waits, in order, on all machines.

    Who uses the hold of one that has gone holds it. Raises StoreUnavailable.
    """
    query = sa.select(lock_place).where(lock_place.c.connection.in_(ALIVE))
    with store.reading() as connection:
        rows = connection.execute(query.order_by(lock_place.c.id)).all()

    def place(row: sa.Row[tuple[object, ...]]) -> tuple[str, int]:
        resource, used, _ = row.resource.partition(_USED)
        return resource, 0 if row.held else 1 if used else 2

    for resource, places in groupby(sorted(rows, key=place), key=lambda row: place(row)[0]):
        found = list(places)
        if found[0].held:
            found = [row for row in found if place(row)[1] != 1]
        yield [
            Ticket(
                resource,
                Actor(row.run, row.job, row.step),
                row.host,
                row.pid,
                row.since.timestamp(),
            )
            for row in found
        ]
