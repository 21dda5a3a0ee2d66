"""Keeps the bytes of reports in the store, by their hash; that each was made is on record."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from smartops.audit import models
from smartops.audit.events import NO_RUN, Event
from smartops.audit.journal import get_journal
from smartops.audit.report_tables import report_part
from smartops.audit.store import Store
from smartops.errors import BadInput

PLACE = "database"
_PART = 512 * 1024


@dataclass(frozen=True)
class KeptReport:
    """A report that was made and kept."""

    id: UUID
    name: str
    period_from: datetime
    period_to: datetime
    media_type: str
    bytes: int
    sha256: str
    made_at: datetime


def keep(
    store: Store, name: str, period: tuple[datetime, datetime], media_type: str, content: bytes
) -> str:
    """Keep a report and put it on record; return its hash. The same bytes are kept once.

    Raises StoreUnavailable, JournalUnavailable.
    """
    digest = hashlib.sha256(content).hexdigest()
    packed = zlib.compress(content, 9)
    with store.transaction() as connection:
        if not _is_there(connection, digest):
            rows = [
                {"sha256": digest, "number": number, "data": packed[start : start + _PART]}
                for number, start in enumerate(range(0, len(packed), _PART))
            ]
            connection.execute(sa.insert(report_part), rows)
    start, end = period
    body = {
        "name": name,
        "period_from": start.isoformat(),
        "period_to": end.isoformat(),
        "media_type": media_type,
        "bytes": len(content),
        "sha256": digest,
        "place": PLACE,
    }
    get_journal().append(Event("report", NO_RUN, body))
    return digest


def _is_there(connection: Connection, digest: str) -> bool:
    query = sa.select(report_part.c.number).where(report_part.c.sha256 == digest).limit(1)
    return connection.execute(query).first() is not None


def kept(store: Store, name: str | None = None, *, limit: int = 100) -> list[KeptReport]:
    """Return the reports that were kept, the newest first. Raises StoreUnavailable."""
    report = models.report
    columns = [report.c[field] for field in KeptReport.__dataclass_fields__]
    query = sa.select(*columns).order_by(report.c.made_at.desc(), report.c.id.desc()).limit(limit)
    if name is not None:
        query = query.where(report.c.name == name)
    with store.reading() as connection:
        return [KeptReport(*row) for row in connection.execute(query)]


def content_of(store: Store, digest: str) -> bytes:
    """Return the bytes of a report, proven by their hash, which may be cut to 8 digits.

    Raises BadInput where there is none, or where the bytes are not those any more.
    """
    part = report_part
    if len(digest) < 8 or not set(digest) <= set("0123456789abcdef"):
        raise BadInput(f"{digest!r} is no hash of a report: give at least 8 of its digits")
    query = sa.select(part.c.sha256, part.c.data).where(part.c.sha256.startswith(digest))
    with store.reading() as connection:
        rows = connection.execute(query.order_by(part.c.sha256, part.c.number)).all()
    hashes = {row[0] for row in rows}
    if len(hashes) != 1:
        raise BadInput(f"{len(hashes) or 'no'} reports with the hash {digest} are kept")
    try:
        content = zlib.decompress(b"".join(row[1] for row in rows))
    except zlib.error:
        content = b""
    if hashlib.sha256(content).hexdigest() not in hashes:
        raise BadInput(f"the report {digest} was altered: its bytes do not have that hash")
    return content


def delete_unused(connection: Connection) -> None:
    """Delete the bytes that no report on record refers to any more; for pruning."""
    used = sa.exists().where(models.report.c.sha256 == report_part.c.sha256)
    connection.execute(sa.delete(report_part).where(~used))
