"""Writes the record, or one run of it, to a file that can be verified without SmartOps."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from smartops.audit import models
from smartops.audit.chain import micros
from smartops.audit.event_rows import EventRow, event_rows, keyset
from smartops.audit.events import NO_RUN
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.whole_zip import new_zip

_WORD = "records.pruned"
_VERIFIER = Path(__file__).with_name("verifier.py")
_README = """This is an export of a SmartOps audit record.

  events.jsonl   one event a line, in the order of its stream; of events that belong to other runs
                 only the hash is given
  seals.jsonl    the seals that cover them, each with its parts and its Ed25519 signature
  verify.py      proves it all: python verify.py THIS_FILE.zip [PUBLIC_KEY] [SEAL_HASH]

Take the public key (keys/seal.pub), the hash of a published seal, and best the verifier too, from
somebody whom you trust, not from this file.
"""


@dataclass(frozen=True)
class Export:
    """What an export holds."""

    events: int
    seals: int


def export(store: Store, path: Path, run_id: UUID | None = None) -> Export:
    """Write the whole record, or what belongs to one run, to a ZIP file.

    What came after the last seal is left out. Raises BadInput where there is nothing to write, or
    the file cannot be, or is there.
    """
    with new_zip(path) as to, store.snapshot() as connection:
        to.writestr("README.txt", _README)
        to.write(_VERIFIER, "verify.py")
        if run_id is None:
            lines: Iterable[dict[str, Any]] = _all_events(connection, store.is_server)
            wanted = None
        else:
            wanted = _seals_of(connection, run_id)
            lines = _events_around(connection, run_id)
        events = _write(to, "events.jsonl", lines)
        if not events:
            raise BadInput(
                "there are no sealed events to export" + (f" of run {run_id}" if run_id else ""),
                hint="The recorder seals every few seconds (`smartops up`).",
            )
        seals = _write(to, "seals.jsonl", _seals(connection, wanted))
    return Export(events, seals)


def _write(to: zipfile.ZipFile, name: str, lines: Iterable[dict[str, Any]]) -> int:
    """Write lines of JSON; return how many of them are whole."""
    count = 0
    with to.open(name, "w", force_zip64=True) as file:
        for line in lines:
            file.write(json.dumps(line).encode() + b"\n")
            count += "body" in line or "seal" in line
    return count


def _all_events(connection: Connection, is_server: bool) -> Iterator[dict[str, Any]]:
    """Yield what is sealed; what came after the last seal proves nothing yet."""
    sealed = dict(keyset(connection, "stream", "id, sealed_seq", ("id",)))
    for row in event_rows(connection, "event", is_server=is_server):
        if row[1] <= sealed.get(row[0], 0):
            yield _line(row)
    for row in event_rows(connection, "event_held", is_server=is_server):
        yield _line(row)


def _line(row: EventRow) -> dict[str, Any]:
    stream, seq, run, run_seq, event_id, event_type, at_us, body, digest = row
    return {
        "stream": stream.hex(),
        "seq": seq,
        "run_id": run.hex(),
        "run_seq": run_seq,
        "id": event_id.hex(),
        "type": event_type,
        "at_us": at_us,
        "body": body,
        "hash": digest.hex(),
    }


def _parts_of(connection: Connection, run_id: UUID) -> list[sa.Row[Any]]:
    """Return the parts of seals that hold an event of a run."""
    part = models.seal_part
    found: set[sa.Row[Any]] = set()
    for event in (models.event, models.event_held):
        own = (event.c.run_id == run_id) | (event.c.type == _WORD)
        if event is models.event:  # with the run goes the word of what was pruned, where there is
            own = own & event.c.run_id.in_((run_id, NO_RUN))
        query = (
            sa.select(part.c.seal, part.c.stream, part.c.first_seq, part.c.last_seq)
            .join(
                event,
                (event.c.stream == part.c.stream)
                & (event.c.seq >= part.c.first_seq)
                & (event.c.seq <= part.c.last_seq),
            )
            .where(own)
            .distinct()
        )
        found.update(connection.execute(query))
    return sorted(found)


def _seals_of(connection: Connection, run_id: UUID) -> set[int]:
    return {row.seal for row in _parts_of(connection, run_id)}


def _events_around(connection: Connection, run_id: UUID) -> Iterator[dict[str, Any]]:
    """Yield a run's events whole, and the hashes of those that were sealed with them."""
    found: dict[tuple[bytes, int], dict[str, Any]] = {}
    event = models.event
    for part in _parts_of(connection, run_id):
        query = sa.select(event.c.seq, event.c.hash).where(
            event.c.stream == part.stream, event.c.seq.between(part.first_seq, part.last_seq)
        )
        stream = part.stream.bytes
        for seq, digest in connection.execute(query):
            found[stream, seq] = {"stream": stream.hex(), "seq": seq, "hash": digest.hex()}
    for table in (models.event, models.event_held):
        own = (table.c.run_id == run_id) | ((table.c.run_id == NO_RUN) & (table.c.type == _WORD))
        for row in connection.execute(sa.select(table).where(own)):
            if table is models.event and (row.stream.bytes, row.seq) not in found:
                continue  # not sealed yet
            plain = (row.stream.bytes, row.seq, row.run_id.bytes, row.run_seq, row.id.bytes)
            found[plain[:2]] = _line((*plain, row.type, micros(row.at), row.body, row.hash))
    for key in sorted(found):
        yield found[key]


def _seals(connection: Connection, wanted: set[int] | None) -> Iterator[dict[str, Any]]:
    seal, part = models.seal, models.seal_part
    query = sa.select(seal).order_by(seal.c.number)
    if wanted is not None:
        query = query.where(seal.c.number.in_(wanted))
    for row in connection.execute(query).all():
        parts = connection.execute(
            sa.select(part).where(part.c.seal == row.number).order_by(part.c.stream)
        )
        yield {
            "seal": row.number,
            "before": row.before.hex(),
            "at_us": micros(row.sealed_at),
            "public_key": row.public_key.hex(),
            "hash": row.hash.hex(),
            "signature": row.signature.hex(),
            "parts": [
                {
                    "stream": p.stream.hex,
                    "first": p.first_seq,
                    "last": p.last_seq,
                    "root": p.root.hex(),
                }
                for p in parts
            ],
        }
