"""How many events a second `audit verify` proves, on MariaDB and on SQLite."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.history import journal_runs
from scripts import mariadb
from smartops.audit import schema, shipping
from smartops.audit.keys import signing_key, trusted_keys
from smartops.audit.seal import seal
from smartops.audit.store import Store
from smartops.audit.verify import verify
from smartops.settings import get_settings

RUNS, PROCESSES, TURNS = 2000, 10, 3


def run(home: str) -> dict[str, Any]:
    """Verify the sealed events of 10 processes; return events a second."""
    os.environ["SMARTOPS_HOME"] = home
    get_settings.cache_clear()
    folder = get_settings().journal_dir
    for _ in range(PROCESSES):
        journal_runs(folder, RUNS)
    sqlite = _rates(f"sqlite:///{home}/audit.sqlite", folder)
    with mariadb.running(Path(home) / "mariadb") as server:
        engine = sa.create_engine(f"{server.url}/", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE bench")
        engine.dispose()
        on_server = _rates(f"{server.url}/bench", folder)
    return {
        "events_per_s": max(on_server),
        "sqlite_events_per_s": max(sqlite),
        "n": PROCESSES * RUNS * 12,
        "samples": {"mariadb": on_server, "sqlite": sqlite},
    }


def _rates(url: str, folder: Path) -> list[float]:
    store = Store(url)
    schema.migrate(store)
    shipping.ship_all(store, folder, keep=True)
    keys = get_settings().keys_dir
    while seal(store, signing_key(keys)) is not None:
        pass
    rates = []
    for _ in range(TURNS):
        begun = time.perf_counter()
        verdict = verify(store, trusted_keys(keys))
        rates.append(verdict.events / (time.perf_counter() - begun))
        if not verdict.ok or verdict.events != PROCESSES * RUNS * 12:
            raise RuntimeError(f"the record is not whole: {verdict}")
    store.close()
    return rates
