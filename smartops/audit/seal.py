"""Seals: each signs the Merkle root of all events that came since the one before.

The events of a seal are given as parts, one for each stream that has grown: from which number to
which, and the root over their hashes. Seals are chained, and published outside of the database
(:mod:`smartops.audit.anchors`), so that neither an event nor a seal can be cut off unseen.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from smartops.audit import chain, models
from smartops.audit.keys import SigningKey
from smartops.audit.store import Store
from smartops.errors import RecordRefused

_MOST_EVENTS = 200_000
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Seal:
    """One seal as it is published."""

    number: int
    hash: bytes
    sealed_at: datetime
    events: int
    public_key: bytes
    signature: bytes

    def as_json(self) -> dict[str, Any]:
        """Return the seal as a JSON object, bytes in hex."""
        return {
            "seal": self.number,
            "hash": self.hash.hex(),
            "sealed_at": self.sealed_at.isoformat(),
            "events": self.events,
            "public_key": self.public_key.hex(),
            "signature": self.signature.hex(),
        }


@dataclass(frozen=True)
class Part:
    """The events of one stream in a seal: numbers ``first`` to ``last``, and their root."""

    stream: UUID
    first: int
    last: int
    root: bytes

    @property
    def leaf(self) -> bytes:
        """What stands for the part in the seal's own tree."""
        return chain.part_leaf(self.stream.bytes, self.first, self.last, self.root)


class _AlreadySealed(Exception):
    """Another recorder has sealed a stream in the meantime."""


def seal(store: Store, key: SigningKey, now: datetime | None = None) -> Seal | None:
    """Seal what is new on record; return the seal, None when nothing is new.

    When two seal at once, one of them finds its number taken and seals nothing.
    Raises StoreUnavailable.
    """

    def once() -> Seal | None:
        with store.transaction() as connection:
            parts = _new_parts(connection)
            if not parts:
                return None
            return _write(connection, key, parts, now or datetime.now(UTC))

    try:
        return store.again_on_deadlock(once)
    except _AlreadySealed:
        return None
    except RecordRefused as error:
        if isinstance(error.__cause__, IntegrityError):
            return None  # another recorder took the number
        raise


def _new_parts(connection: Connection) -> list[Part]:
    table = models.stream
    query = (
        sa.select(table.c.id, table.c.sealed_seq, table.c.last_seq)
        .where(table.c.sealed.is_(False))
        .order_by(table.c.id)
    )
    parts: list[Part] = []
    total = 0
    for row in connection.execute(query).all():
        if row.last_seq <= row.sealed_seq:
            continue
        first, last = row.sealed_seq + 1, min(row.last_seq, row.sealed_seq + _MOST_EVENTS)
        root = _root(connection, row.id, first, last)
        if root is None:
            _report(row.id, first, last)
            continue
        parts.append(Part(row.id, first, last, root))
        total += last - first + 1
        if total >= _MOST_EVENTS:
            break
    return parts


def _root(connection: Connection, stream: UUID, first: int, last: int) -> bytes | None:
    """Return the root of a stream's events, None where one of them is missing."""
    event = models.event
    query = (
        sa.select(event.c.hash)
        .where(event.c.stream == stream, event.c.seq.between(first, last))
        .order_by(event.c.seq)
    )
    hashes = list(connection.execute(query).scalars())
    return chain.merkle_root(hashes) if len(hashes) == last - first + 1 else None


_reported: set[UUID] = set()


def _report(stream: UUID, first: int, last: int) -> None:
    """Say once that a stream cannot be sealed; the others are."""
    if stream not in _reported:
        _reported.add(stream)
        text = "stream %s lacks events between %d and %d and is not sealed: `smartops audit verify`"
        logger.error(text, stream, first, last)


def _write(connection: Connection, key: SigningKey, parts: list[Part], now: datetime) -> Seal:
    last = last_seal(connection)
    number = last.number + 1 if last else 1
    before = last.hash if last else chain.FIRST
    root = chain.merkle_root([part.leaf for part in parts])
    events = sum(part.last - part.first + 1 for part in parts)
    text = chain.seal_text(number, before, root, events, chain.micros(now), key.id)
    made = Seal(number, chain.seal_hash(text), now, events, key.public, key.sign(text))
    connection.execute(
        sa.insert(models.seal).values(
            number=number,
            before=before,
            root=root,
            events=events,
            sealed_at=now,
            key_id=key.id,
            public_key=key.public,
            hash=made.hash,
            signature=made.signature,
        )
    )
    rows = [{"seal": number, "stream": p.stream, **_numbers(p), "root": p.root} for p in parts]
    connection.execute(sa.insert(models.seal_part), rows)
    table = models.stream
    for part in parts:
        done = connection.execute(
            sa.update(table)
            .where(table.c.id == part.stream, table.c.sealed_seq == part.first - 1)
            .values(sealed_seq=part.last, sealed=table.c.last_seq == part.last)
        )
        if done.rowcount != 1:
            raise _AlreadySealed
    return made


def _numbers(part: Part) -> dict[str, int]:
    return {"first_seq": part.first, "last_seq": part.last}


def is_sealed(store: Store) -> bool | None:
    """Return whether there is a seal; None where there is no event either."""
    with store.reading() as connection:
        if last_seal(connection) is not None:
            return True
        some = sa.select(models.event.c.seq).limit(1)
        return None if connection.execute(some).first() is None else False


def last_seal(connection: Connection) -> Seal | None:
    """Return the last seal, None where there is none."""
    found = seals_after(connection, None, limit=1, newest_first=True)
    return found[0] if found else None


def seals_after(
    connection: Connection, number: int | None, *, limit: int, newest_first: bool = False
) -> list[Seal]:
    """Return seals with a number above the given one."""
    table = models.seal
    order = table.c.number.desc() if newest_first else table.c.number
    query = sa.select(table).order_by(order).limit(limit)
    if number is not None:
        query = query.where(table.c.number > number)
    return [
        Seal(row.number, row.hash, row.sealed_at, row.events, row.public_key, row.signature)
        for row in connection.execute(query)
    ]
