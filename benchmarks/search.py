"""How long it takes to find runs among 10 million step rows, on MariaDB (SMARTOPS_ROWS for fewer).

The rows are made by the server itself. Each way to look is asked 20 times, for the first page and
for a page deep in the list; the slowest median counts.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from reports.runs import Wanted, get_run, list_runs
from scripts import mariadb
from smartops.audit import schema
from smartops.audit.models import metadata
from smartops.audit.store import Store

STEPS_A_RUN, TRIES = 6, 20
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_YEAR_S = 365 * 86_400
_SERVER = ("--innodb-buffer-pool-size=3G", "--innodb-flush-log-at-trx-commit=0")


def run(home: str) -> dict[str, Any]:
    """Fill the tables; return the median seconds of each way to look."""
    rows = int(os.environ.get("SMARTOPS_ROWS", "10000000"))
    with mariadb.running(Path(home) / "mariadb", _SERVER) as server:
        engine = sa.create_engine(f"{server.url}/", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE bench")
        engine.dispose()
        store = Store(f"{server.url}/bench")
        schema.migrate(store)
        begun = time.perf_counter()
        _fill(server.url, rows // STEPS_A_RUN)
        print(f"  ({rows} step rows in {time.perf_counter() - begun:.0f} s)")
        medians = _measure(store)
        store.close()
    return {"rows": rows, "slowest_s": max(medians.values()), "medians_s": medians, "n": TRIES}


def _fill(url: str, runs: int) -> None:
    engine = sa.create_engine(f"{url}/bench", isolation_level="AUTOCOMMIT")
    at = f"TIMESTAMPADD(MICROSECOND, n.seq * {_YEAR_S * 1_000_000 // runs}, '2026-01-01')"
    run_id = "UNHEX(MD5(n.seq))"
    key = "UNHEX(CONCAT(LPAD(HEX(1767225600000 + n.seq * {k}), 12, '0'), '7000', LPAD(HEX({m}), 16, '0')))"  # noqa: E501
    job_run = f"""INSERT INTO job_run (id, job, kind, flow, params, state, message, started_at,
        ended_at, host, pid, requested_by) SELECT {run_id}, CONCAT('job-', n.seq MOD 200), 'job',
        'run-job', '{{}}', IF(n.seq MOD 50 = 0, 'failed', 'completed'), '', {at},
        TIMESTAMPADD(SECOND, 20, {at}), 'host-1', 7,
        IF(n.seq MOD 10 = 0, CONCAT('person-', n.seq MOD 1000), 'schedule')
        FROM seq_1_to_{runs} n"""
    step_key = key.format(k=_YEAR_S * 1000 // runs, m="n.seq * 8 + s.seq")
    step_run = f"""INSERT INTO step_run (id, run_id, step, kind, effect, attempt, state, inputs,
        output, started_at, ended_at) SELECT {step_key}, {run_id}, CONCAT('step-', s.seq),
        'modbus.read', 'read', 1, 'completed', '{{"device": "line-1", "tags": ["tank_level"]}}',
        '{{"values": {{"tank_level": 43.0}}}}', {at}, {at}
        FROM seq_1_to_{runs} n, seq_1_to_{STEPS_A_RUN} s"""
    command_key = key.format(k=_YEAR_S * 1000 // runs, m="n.seq")
    command = f"""INSERT INTO device_command (id, run_id, step_run_id, device, tag, unit,
        requested_value, state, restored, reason, requested_at) SELECT {command_key}, {run_id},
        {command_key}, CONCAT('device-', n.seq MOD 300), 'speed', '', '1', 'confirmed', 0, '', {at}
        FROM seq_1_to_{runs} n"""
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("SET SESSION net_read_timeout = 3600, unique_checks = 0")
        for name, sql in (
            ("job_run", job_run),
            ("step_run", step_run),
            ("device_command", command),
        ):
            indexes = sorted(metadata.tables[name].indexes, key=lambda index: str(index.name))
            drops = ", ".join(f"DROP INDEX {index.name}" for index in indexes)
            adds = ", ".join(
                f"ADD INDEX {index.name} ({', '.join(column.name for column in index.columns)})"
                for index in indexes
            )
            cursor.execute(f"ALTER TABLE {name} {drops}")
            cursor.execute(sql)
            cursor.execute(f"ALTER TABLE {name} {adds}")
            cursor.execute(f"ANALYZE TABLE {name}")
    engine.dispose()


def _measure(store: Store) -> dict[str, float]:
    chance = random.Random(1)

    def moment() -> datetime:
        return _BEGIN + timedelta(seconds=chance.randrange(_YEAR_S - 86_400))

    def day() -> Wanted:
        start = moment()
        return Wanted(since=start, until=start + timedelta(hours=8))

    ways: dict[str, Callable[[], Wanted]] = {
        "newest": Wanted,
        "job": lambda: Wanted(job=f"job-{chance.randrange(200)}"),
        "state": lambda: Wanted(state="failed"),
        "device": lambda: Wanted(device=f"device-{chance.randrange(300)}"),
        "person": lambda: Wanted(person=f"person-{chance.randrange(0, 1000, 10)}"),
        "schedule": lambda: Wanted(person="schedule"),
        "time": day,
        "job_and_state": lambda: Wanted(job=f"job-{chance.randrange(200)}", state="failed"),
    }
    medians = {name: _median(partial(_list, store, way)) for name, way in ways.items()}
    deep = [list_runs(store, Wanted(until=moment()), limit=1)[0].run_id for _ in range(TRIES)]
    for name, way in ways.items():
        if name != "time":
            medians[f"{name}, deep"] = _median(
                partial(_list, store, partial(_after, way, deep, chance))
            )
    medians["detail"] = _median(lambda: get_run(store, str(chance.choice(deep))))
    return medians


def _list(store: Store, way: Callable[[], Wanted]) -> None:
    list_runs(store, way())


def _after(way: Callable[[], Wanted], deep: list[UUID], chance: random.Random) -> Wanted:
    return replace(way(), after=chance.choice(deep))


def _median(look: Callable[[], object]) -> float:
    samples = []
    for _ in range(TRIES):
        begun = time.perf_counter()
        look()
        samples.append(time.perf_counter() - begun)
    return statistics.median(samples)
