"""Brings journals to the store: in order, each record once, whoever does it and how often."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from smartops.audit import liveness
from smartops.audit.journal import remove_files
from smartops.audit.journal_reader import JournalReader, Record, journal_files
from smartops.audit.store import Store
from smartops.errors import StoreUnavailable

logger = logging.getLogger(__name__)
BATCH = 2500
_AT_ONCE = 3
MOST_BYTES = 4_000_000  # a transaction; the driver splits it into statements of 1 MB


def ship_all(store: Store, folder: Path, *, keep: bool = False) -> int:
    """Ship what is new in every journal of the folder; return how many records that were.

    Several processes' at once on a server, as each transaction waits for its disk; but one after
    the other for one process, whose runs go on from journal to journal. Journals of dead writers
    that are wholly in the store are deleted, unless they are to be kept. Raises StoreUnavailable.
    """

    def ship(paths: list[Path]) -> int:
        return sum(_ship_or_report(store, path, keep=keep) for path in paths)

    groups = list(_by_process(folder).values())
    if store.is_server and len(groups) > 1:
        with ThreadPoolExecutor(min(_AT_ONCE, len(groups))) as pool:
            shipped = sum(pool.map(ship, groups))
    else:
        shipped = sum(map(ship, groups))
    if not keep:
        liveness.forget_the_dead(folder, {process for process in _by_process(folder) if process})
    return shipped


def ship_process(store: Store, folder: Path, process: UUID) -> int:
    """Ship the journals of one process, oldest first; see :func:`ship_all`."""
    paths = _by_process(folder).get(process, [])
    return sum(_ship_or_report(store, path, keep=False) for path in paths)


def _by_process(folder: Path) -> dict[UUID | None, list[Path]]:
    """Return all journals by the process that writes them, oldest first; None for what is none."""
    found: dict[UUID | None, list[Path]] = {}
    for path in journal_files(folder):
        process = None
        with suppress(sqlite3.DatabaseError, ValueError):
            reader = JournalReader(path)
            process = reader.writer.process if reader.writer else None
            reader.close()
        found.setdefault(process, []).append(path)
    return found


_reported: set[Path] = set()


def _ship_or_report(store: Store, path: Path, *, keep: bool) -> int:
    """Ship one journal. One that cannot be read or is refused must not hold up the others."""
    try:
        return ship_file(store, path, keep=keep)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever is in one file, the others go on
        if path not in _reported:
            logger.error("journal %s cannot be shipped and stays: %s", path, error)  # noqa: TRY400
            _reported.add(path)
        return 0


def ship_file(store: Store, path: Path, *, keep: bool = False) -> int:
    """Ship what is new in one journal; see :func:`ship_all`."""
    try:
        reader = JournalReader(path)
    except sqlite3.OperationalError:
        # Another recorder has just deleted it, or its writer has not written the first page yet.
        return 0
    try:
        finished = reader.finished  # asked first: a writer that ends later may still add
        shipped = _ship(store, reader)
    finally:
        reader.close()
    if finished and not keep:
        remove_files(path)
    return shipped


def _ship(store: Store, reader: JournalReader) -> int:
    if reader.writer is None:
        return 0
    seq, shipped = store.cursor(reader.writer.stream), 0
    while records := reader.after(seq, BATCH):
        for batch in _batches(records):
            shipped += store.ship(reader.writer, batch)
        seq = records[-1].seq
    return shipped


def _batches(records: list[Record]) -> Iterator[list[Record]]:
    """Divide records so that no transaction becomes too great."""
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.body)
        if size >= MOST_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def is_waiting(folder: Path, process: UUID) -> bool:
    """Return whether a journal of a process lies there still, as it could not be shipped."""
    return process in _by_process(folder)


def lag(store: Store, folder: Path) -> int:
    """Return how many journalled records are not in the store yet."""
    total = 0
    for path in journal_files(folder):
        try:
            reader = JournalReader(path)
        except sqlite3.DatabaseError:
            continue
        try:
            if reader.writer is not None:
                total += reader.count_after(store.cursor(reader.writer.stream))
        finally:
            reader.close()
    return total
