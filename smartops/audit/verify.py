"""Proves that the record is whole: every event in its chain, every chain in its seals.

Reads all events once, in the order of their key, and names the first row that is not what was
recorded: altered, deleted, inserted, moved, or cut off at the end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from smartops.audit import chain, keys, models
from smartops.audit.event_rows import EventRow, event_rows, keyset
from smartops.audit.pruned import Pruned, pruned
from smartops.audit.seal import Part
from smartops.audit.store import Store


@dataclass(frozen=True)
class BadRow:
    """The first row that is not as it was recorded."""

    table: str
    row: str
    what: str
    run_id: str | None = None

    @property
    def text(self) -> str:
        """It in one line."""
        run = f" (run {self.run_id})" if self.run_id else ""
        return f"{self.table} {self.row} {self.what}{run}"


@dataclass
class Verdict:
    """What a verification found."""

    events: int = 0
    runs: int = 0
    seals: int = 0
    unsealed: int = 0
    """Events that came after the last seal, so that only their chain protects them yet."""
    anchored: int = 0
    """The number of the last seal that is published outside of the database and was compared."""
    first_bad: BadRow | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing was tampered with."""
        return self.first_bad is None

    def as_json(self) -> dict[str, Any]:
        """Return the verdict as a JSON object."""
        return {"ok": self.ok, **asdict(self)}


_ID_BYTES = 16
_NO_EVENT = (struct.error, ValueError, TypeError, AttributeError)


class Tampered(Exception):
    """A row is not as it was recorded."""

    def __init__(self, table: str, row: str, what: str, run_id: bytes | None = None) -> None:
        super().__init__(f"{table} {row}: {what}")
        run = str(UUID(bytes=run_id)) if run_id and len(run_id) == _ID_BYTES else None
        self.bad = BadRow(table, row, what, run)


def verify(
    store: Store,
    trusted: frozenset[bytes],
    anchored: Mapping[int, bytes] | None = None,
) -> Verdict:
    """Verify the whole record.

    ``trusted`` are the raw public keys that may have signed, ``anchored`` the hashes of seals, by
    number, as they were published elsewhere. Raises StoreUnavailable.
    """
    verdict = Verdict()
    with store.snapshot() as connection:
        try:
            _Check(connection, store.is_server, verdict).run(trusted, anchored or {})
        except Tampered as error:
            verdict.first_bad = error.bad
    return verdict


@dataclass
class _Check:
    connection: Connection
    is_server: bool
    verdict: Verdict
    gone: Pruned = field(default_factory=Pruned)
    run_ids: set[bytes] = field(default_factory=set)
    kept: dict[tuple[bytes, int], bytes] = field(default_factory=dict)
    seen_old: set[tuple[bytes, int]] = field(default_factory=set)

    def run(self, trusted: frozenset[bytes], anchored: Mapping[int, bytes]) -> None:
        seals_fault = self._fault_in_seals(trusted, anchored)
        self.gone = pruned(self.connection)
        self._events()
        self._held()
        self.verdict.runs = len(self.run_ids - {bytes(16)})
        if seals_fault is not None:
            raise seals_fault

    # --- seals --------------------------------------------------------------------------------

    def _fault_in_seals(
        self, trusted: frozenset[bytes], anchored: Mapping[int, bytes]
    ) -> Tampered | None:
        """Return what is wrong with the seals; it is told last, as an event says more."""
        try:
            self._seals(trusted, anchored)
        except Tampered as error:
            return error
        except _NO_EVENT as error:
            return Tampered("seal", "table", f"holds what no seal can hold ({error})")
        return None

    def _seals(self, trusted: frozenset[bytes], anchored: Mapping[int, bytes]) -> None:
        before, number = chain.FIRST, 0
        leaves = _leaves_by_seal(self.connection)
        for row in self.connection.execute(sa.select(models.seal).order_by(models.seal.c.number)):
            number += 1
            name = f"number {number}"
            if row.number != number:
                raise Tampered("seal", name, f"is missing; the next one is {row.number}")
            at_us = chain.micros(row.sealed_at)
            text = chain.seal_text(number, before, row.root, row.events, at_us, row.key_id)
            if row.before != before or row.hash != chain.seal_hash(text):
                raise Tampered("seal", name, "does not follow from the one before")
            if chain.key_id(row.public_key) != row.key_id or row.public_key not in trusted:
                raise Tampered("seal", name, "is signed with a key that is not trusted")
            if not keys.is_signed(row.public_key, row.signature, text):
                raise Tampered("seal", name, "its signature does not hold")
            parts, events = leaves.get(number, ([], 0))
            if chain.merkle_root(parts) != row.root or events != row.events:
                raise Tampered("seal_part", f"of seal {number}", "differ from what was sealed")
            if anchored.get(number, row.hash) != row.hash:
                raise Tampered("seal", name, "differs from what was published")
            before = row.hash
        self.verdict.seals = number
        if extra := sorted(set(leaves) - set(range(1, number + 1))):
            raise Tampered("seal_part", f"of seal {extra[0]}", "belongs to no seal")
        if anchored:
            self.verdict.anchored = min(max(anchored), number)
            if max(anchored) > number:
                raise Tampered("seal", f"number {number + 1}", "is missing, and was published")

    # --- events -------------------------------------------------------------------------------

    def _events(self) -> None:
        streams = _by_stream(event_rows(self.connection, "event", is_server=self.is_server))
        parts = _by_stream(_parts(self.connection))
        known = _by_stream(_streams(self.connection))
        for stream, rows, sealed, told in _merged(streams, parts, known):
            if self.gone.covers(stream) and not rows:
                continue
            self._stream(
                stream, rows, [Part(UUID(bytes=part[0]), *part[1:]) for part in sealed], told
            )

    def _stream(
        self, stream: bytes, rows: Iterable[EventRow], parts: Sequence[Part], told: Sequence[Any]
    ) -> None:
        heads: dict[bytes, tuple[int, bytes]] = {}
        waiting = list(parts)
        hashes: list[bytes] = []
        old = self.gone.covers(stream)
        seq = 0
        for row in rows:
            seq += 1
            if row[1] != seq:
                raise Tampered("event", _name(stream, seq), "is missing", row[2])
            hashes.append(_checked(row, heads))
            if old:
                self.seen_old.add((stream, seq))
                if row[2] in self.gone.held_runs:
                    self.kept[stream, seq] = hashes[-1]
            if waiting and waiting[0].last == seq:
                self._sealed(stream, waiting.pop(0), hashes, row[2])
                hashes = []
        self.verdict.events += seq
        self.run_ids.update(heads)
        if waiting:
            raise Tampered("event", _name(stream, seq + 1), "is missing, and was sealed")
        last, sealed_seq = (told[0][1], told[0][2]) if told else (0, 0)
        if last != seq:
            what = "is missing" if last > seq else "was added"
            raise Tampered("event", _name(stream, min(last, seq) + 1), what)
        sealed = parts[-1].last if parts else 0
        if sealed_seq != sealed:
            raise Tampered("event", _name(stream, sealed + 1), "passes for sealed, and is not")
        self.verdict.unsealed += seq - sealed

    @staticmethod
    def _sealed(stream: bytes, part: Part, hashes: list[bytes], run: bytes) -> None:
        if len(hashes) != part.last - part.first + 1 or chain.merkle_root(hashes) != part.root:
            raise Tampered(
                "event", _name(stream, part.first), "and after differ from the seal", run
            )

    def _held(self) -> None:
        """Check what was kept when the rest was pruned: whole chains, and all that was told of.

        While a pruning is under way, what is kept may still stand among the other events, and
        what a hold that is over has kept may still be there.
        """
        for stream, rows in _by_stream(
            event_rows(self.connection, "event_held", is_server=self.is_server)
        ):
            if not self.gone.covers(stream):
                raise Tampered("event_held", _name(stream, 1), "was never pruned")
            heads: dict[bytes, tuple[int, bytes]] = {}
            for row in rows:
                digest = _checked(row, heads, "event_held")
                if (stream, row[1]) not in self.seen_old:
                    self.verdict.events += 1
                if row[2] in self.gone.held_runs:
                    self.kept[stream, row[1]] = digest
            self.run_ids.update(heads)
        leaves = [self.kept[place] for place in sorted(self.kept)]
        if len(leaves) != self.gone.held or chain.merkle_root(leaves) != self.gone.held_root:
            raise Tampered("event_held", "as a whole", "differs from what was kept")


def _checked(row: EventRow, heads: dict[bytes, tuple[int, bytes]], table: str = "event") -> bytes:
    """Return the hash of a row; raise Tampered where its chain does not lead to it."""
    stream, seq, run, run_seq, event_id, event_type, at_us, body, digest = row
    count, head = heads.get(run, (0, chain.FIRST))
    if run_seq != count + 1:
        raise Tampered(table, _name(stream, seq), "is not the next of its run", run)
    try:
        found = chain.link(head, stream, seq, run, run_seq, event_id, event_type, at_us, body)
    except _NO_EVENT:
        raise Tampered(table, _name(stream, seq), "holds what no event can hold", run) from None
    if found != digest:
        raise Tampered(table, _name(stream, seq), "is not what was recorded", run)
    heads[run] = (run_seq, found)
    return found


def _name(stream: bytes, seq: int) -> str:
    return f"stream {UUID(bytes=stream)} seq {seq}"


def _leaves_by_seal(connection: Connection) -> dict[int, tuple[list[bytes], int]]:
    table = models.seal_part
    found: dict[int, tuple[list[bytes], int]] = {}
    for row in connection.execute(sa.select(table).order_by(table.c.seal, table.c.stream)):
        leaves, events = found.get(row.seal, ([], 0))
        leaves.append(Part(row.stream, row.first_seq, row.last_seq, row.root).leaf)
        found[row.seal] = (leaves, events + row.last_seq - row.first_seq + 1)
    return found


def _parts(connection: Connection) -> Iterator[tuple[Any, ...]]:
    columns = "stream, first_seq, last_seq, root"
    return keyset(connection, "seal_part", columns, ("stream", "first_seq"))


def _streams(connection: Connection) -> Iterator[tuple[bytes, int, int]]:
    return keyset(connection, "stream", "id, last_seq, sealed_seq", ("id",))


def _by_stream(rows: Iterable[Any]) -> Iterator[tuple[bytes, Iterator[Any]]]:
    return groupby(rows, key=itemgetter(0))


def _merged(
    events: Iterator[tuple[bytes, Iterator[Any]]],
    parts: Iterator[tuple[bytes, Iterator[Any]]],
    known: Iterator[tuple[bytes, Iterator[Any]]],
) -> Iterator[tuple[bytes, Iterable[Any], list[Any], list[Any]]]:
    """Yield each stream that any of the three has, with what each has of it."""
    sources = [events, parts, known]
    heads = [next(source, None) for source in sources]
    while any(heads):
        stream = min(head[0] for head in heads if head)
        found: list[Any] = []
        for head in heads:
            mine = head is not None and head[0] == stream
            found.append(head[1] if mine and head else [])
        rows = found[0]
        yield stream, rows, list(found[1]), list(found[2])
        for index, head in enumerate(heads):
            if head is not None and head[0] == stream:
                heads[index] = next(sources[index], None)
