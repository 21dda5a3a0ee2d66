"""Brings journals to the store: in order, each record once, whoever does it and how often."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from smartops.audit import journal
from smartops.audit.journal import JournalReader
from smartops.audit.store import Store
from smartops.errors import RecordRefused

logger = logging.getLogger(__name__)
BATCH = 500


def ship_all(store: Store, folder: Path) -> int:
    """Ship what is new in every journal of the folder; return how many records that were.

    Journals of dead writers that are wholly in the store are deleted. Raises StoreUnavailable.
    """
    return sum(_ship_or_report(store, path) for path in journal.journal_files(folder))


_reported: set[Path] = set()


def _ship_or_report(store: Store, path: Path) -> int:
    """Ship one journal. One that cannot be read or is refused must not hold up the others."""
    try:
        return ship_file(store, path)
    except (sqlite3.DatabaseError, RecordRefused) as error:
        if path not in _reported:
            logger.error("journal %s cannot be shipped and stays: %s", path, error)  # noqa: TRY400
            _reported.add(path)
        return 0


def ship_file(store: Store, path: Path) -> int:
    """Ship what is new in one journal; see :func:`ship_all`."""
    dead = journal.writer_is_dead(path)  # asked first: a writer that dies later may still add
    try:
        reader = JournalReader(path)
    except sqlite3.OperationalError:
        # Another recorder has just deleted it, or its writer has not written the first page yet.
        return 0
    try:
        shipped = _ship(store, reader)
    finally:
        reader.close()
    if dead:
        journal.remove(path)
    return shipped


def _ship(store: Store, reader: JournalReader) -> int:
    if reader.stream is None:
        return 0
    seq, shipped = store.cursor(reader.stream), 0
    while records := reader.after(seq, BATCH):
        shipped += store.ship(reader.stream, reader.host, reader.pid, records)
        seq = records[-1].seq
    return shipped


def lag(store: Store, folder: Path) -> int:
    """Return how many journalled records are not in the store yet."""
    total = 0
    for path in journal.journal_files(folder):
        try:
            reader = JournalReader(path)
        except sqlite3.DatabaseError:
            continue
        try:
            if reader.stream is not None:
                total += reader.count_after(store.cursor(reader.stream))
        finally:
            reader.close()
    return total
