"""What has been pruned, as the record itself says it: only a sealed word for it counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from smartops.audit import chain, models
from smartops.audit.events import NO_RUN


@dataclass(frozen=True)
class Pruned:
    """Which streams may be missing, and how many events were kept of them."""

    before: bytes = bytes(16)
    """Streams with a smaller id are gone."""
    held: int = 0
    held_root: bytes = chain.FIRST
    held_runs: frozenset[bytes] = frozenset()

    def covers(self, stream: bytes) -> bool:
        """Return whether a stream may be missing."""
        return stream < self.before

    @property
    def moment(self) -> datetime:
        """The moment before which streams are gone."""
        return chain.moment(int.from_bytes(self.before[:6], "big") * 1000)


def pruned(connection: Connection) -> Pruned:
    """Return what the last pruning that is sealed says."""
    event, part = models.event, models.seal_part
    sealed = sa.exists().where(
        part.c.stream == event.c.stream,
        part.c.first_seq <= event.c.seq,
        part.c.last_seq >= event.c.seq,
    )
    query = (
        sa.select(event.c.body)
        .where(event.c.run_id == NO_RUN, event.c.type == "records.pruned", sealed)
        .order_by(event.c.at.desc())
        .limit(1)
    )
    body = connection.execute(query).scalar()
    if body is None:
        return Pruned()
    try:
        told = json.loads(body)
        return Pruned(
            bytes.fromhex(told["streams_before"]),
            int(told["held"]),
            bytes.fromhex(told["held_root"]),
            frozenset(bytes.fromhex(run) for run in told["held_runs"]),
        )
    except (ValueError, TypeError, KeyError):
        return Pruned()  # somebody has altered it; the chain will say so
