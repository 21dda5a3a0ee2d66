"""The recorder's rate into MariaDB, beside bare PyMySQL ``executemany`` into the same table.

Both write the same events with the same commits of 1,000. The recorder reads them from journals,
shows them in the other tables, and keeps its cursors; PyMySQL only inserts rows that lie ready.
They take turns, and each turn starts on empty tables.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import pymysql
import sqlalchemy as sa
from uuid6 import uuid7

from benchmarks.history import journal_runs
from scripts import mariadb
from smartops.audit import schema, shipping
from smartops.audit.chain import moment
from smartops.audit.journal_reader import JournalReader, journal_files
from smartops.audit.store import Store
from smartops.settings import get_settings

RUNS, PROCESSES, TURNS = 500, 8, 3
_BATCH = 1000


def run(home: str) -> dict[str, Any]:
    """Ship the events of 8 processes; return rows and events a second."""
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    folder = get_settings().journal_dir
    for _ in range(PROCESSES):
        journal_runs(folder, RUNS)
    rows = _rows(folder)
    bare: list[float] = []
    ours: list[float] = []
    with mariadb.running(Path(home) / "mariadb") as server:
        for _ in range(TURNS):
            bare.append(len(rows) / _in_empty_store(server.url, lambda s: _insert(s, rows)))
            ours.append(len(rows) / _in_empty_store(server.url, lambda s: _ship(s, folder)))
    bare_rate, our_rate = statistics.median(bare), statistics.median(ours)
    return {
        "bare_pymysql_rows_per_s": bare_rate,
        "recorder_events_per_s": our_rate,
        "ratio": our_rate / bare_rate,
        "n": len(rows),
        "samples": {"bare": bare, "recorder": ours},
    }


def _rows(folder: Path) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for path in journal_files(folder):
        reader = JournalReader(path)
        stream = reader.writer.stream.bytes if reader.writer else b""
        for r in reader.after(0, 10**9):
            at = moment(r.at_us).replace(tzinfo=None)
            rows.append((stream, r.seq, r.id, r.run_id, r.run_seq, r.type, at, r.body, r.hash))
        reader.close()
    return rows


def _in_empty_store(server: str, work: Any) -> float:
    """Return how many seconds some work takes on a new database."""
    name = f"bench_{uuid7().hex}"
    engine = sa.create_engine(f"{server}/", isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    store = Store(f"{server}/{name}")
    schema.migrate(store)
    try:
        begun = time.perf_counter()
        work(store)
        return time.perf_counter() - begun
    finally:
        store.close()
        with engine.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")
        engine.dispose()


def _insert(store: Store, rows: list[tuple[Any, ...]]) -> None:
    url = store.url
    connection = pymysql.connect(
        host=url.host, port=url.port or 3306, user=url.username, database=url.database
    )
    columns = "stream, seq, id, run_id, run_seq, type, at, body, hash"
    sql = f"INSERT INTO event ({columns}) VALUES ({', '.join(['%s'] * 9)})"
    with connection, connection.cursor() as cursor:
        for start in range(0, len(rows), _BATCH):
            cursor.executemany(sql, rows[start : start + _BATCH])
            connection.commit()


def _ship(store: Store, folder: Path) -> None:
    shipping.ship_all(store, folder, keep=True)
