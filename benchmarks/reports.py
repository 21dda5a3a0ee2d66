"""How long the daily report takes over 10 million step rows of a year, on SQLite and MariaDB.

A tenth of the year is generated, and the server copies it nine times, as lines beside the first
(SMARTOPS_ROWS for fewer rows, SMARTOPS_STORES=sqlite for one of the two). Each report is made by
the command itself, in a process of its own, whose time and memory count as a whole.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from benchmarks.year import YEAR, Plant, load
from scripts import mariadb
from smartops.audit import models, rollup, schema
from smartops.audit.report_tables import rollup_run, rollup_step
from smartops.audit.store import Store

COPIES, TRIES = 9, 3
_STEPS_A_YEAR = 960_000
_SERVER = ("--innodb-buffer-pool-size=2G", "--innodb-flush-log-at-trx-commit=0")
_ASKED = {
    "daily": ("--last", "day"),
    "monthly": ("--last", "month"),
}
_MEASURED = """
import json, resource, sys
from smartops.cli import main
sys.argv = ["smartops", *sys.argv[1:]]
code = main()
used = resource.getrusage(resource.RUSAGE_SELF)
sys.stderr.write(json.dumps([code, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def run(home: str) -> dict[str, Any]:
    """Fill the stores and make reports; return the seconds and the memory of the worst."""
    rows = int(os.environ.get("SMARTOPS_ROWS", "10000000"))
    wanted = os.environ.get("SMARTOPS_STORES", "sqlite,mariadb").split(",")
    found: dict[str, Any] = {}
    if "sqlite" in wanted:
        found["sqlite"] = _measure(f"sqlite:///{home}/audit.sqlite", rows, home)
        Path(home, "audit.sqlite").unlink()
    if "mariadb" in wanted:
        with mariadb.running(Path(home) / "mariadb", _SERVER) as server:
            engine = sa.create_engine(f"{server.url}/", isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.exec_driver_sql("CREATE DATABASE bench")
            engine.dispose()
            found["mariadb"] = _measure(f"{server.url}/bench", rows, home)
    return {
        "rows": min(store["rows"] for store in found.values()),
        "daily_report_s": max(store["daily"]["seconds"] for store in found.values()),
        "peak_mb": max(store["daily"]["peak_mb"] for store in found.values()),
        "samples": found,
        **{f"{store}_{name}": found[store][name] for store in found for name in _ASKED},
        "n": TRIES,
    }


def _measure(url: str, rows: int, home: str) -> dict[str, Any]:
    store = Store(url, patient=True)
    schema.migrate(store)
    length = timedelta(days=max(int(YEAR.days * min(rows / 10 / _STEPS_A_YEAR, 1)), 40))
    density = max(rows / 10 / _STEPS_A_YEAR / (length / YEAR), 0.01)
    plant = Plant(length=length, density=density)
    timed: dict[str, float] = {}
    _time(timed, "generate_s", lambda: load(store, plant))
    _time(timed, "rebuild_s", lambda: rollup.rebuild(store))
    _time(timed, "copy_s", lambda: _copy(store))
    with store.reading() as connection:
        count = sa.select(sa.func.count())
        steps = connection.execute(count.select_from(models.step_run)).scalar_one()
        hours = connection.execute(count.select_from(rollup_step)).scalar_one()
    store.close()
    print(f"  ({url.partition(':')[0]}: {steps} step rows, {hours} rolled up, {timed})")
    end = (plant.start + plant.length).date() - timedelta(days=2)
    made = {
        name: _reports(url, home, [*asked, "--from", str(end)]) for name, asked in _ASKED.items()
    }
    return {"rows": steps, **timed, **made}


def _time(timed: dict[str, float], name: str, work: Callable[[], object]) -> None:
    begun = time.perf_counter()
    work()
    timed[name] = round(time.perf_counter() - begun, 1)
    print(f"  ({name} {timed[name]})", flush=True)


def _copy(store: Store) -> None:
    """Copy all rows as those of more lines: other ids and jobs, the same times."""
    for number in range(1, COPIES + 1):
        for table in (models.job_run, models.step_run, models.slot, rollup_run, rollup_step):
            with store.transaction() as connection:
                connection.execute(_copied(store, table, number))
    tables = ("job_run", "step_run", "slot", "rollup_run", "rollup_step")
    with store.transaction() as connection:
        for name in tables if store.is_server else ("",):
            connection.execute(sa.text(f"ANALYZE TABLE {name}" if name else "ANALYZE"))


def _copied(store: Store, table: sa.Table, number: int) -> sa.Insert:
    """Return what adds the rows of one more line: ids of the first line end with a zero byte."""
    values: list[sa.ColumnElement[Any]] = []
    for column in table.columns:
        if column.name in {"id", "run_id"}:
            joined = f"substr({column.name}, 1, 15) || x'{number:02x}'"
            joined = f"CAST({joined} AS BLOB)"
            if store.is_server:
                joined = f"CONCAT(SUBSTR({column.name}, 1, 15), x'{number:02x}')"
            values.append(sa.literal_column(joined))
        elif column.name == "job":
            values.append(column + f" @{number}")
        else:
            values.append(column)
    query = sa.select(*values)
    if "id" in table.c:
        query = query.where(sa.literal_column("substr(id, 16, 1)") == sa.text("x'00'"))
    else:
        query = query.where(table.c.job.not_like("%@%"))
    return sa.insert(table).from_select([column.name for column in table.columns], query)


def _reports(url: str, home: str, asked: list[str]) -> dict[str, float]:
    """Make a report some times; return the median time and the greatest memory."""
    environment = {**os.environ, "SMARTOPS_DATABASE_URL": url, "SMARTOPS_HOME": home}
    command = [sys.executable, "-c", _MEASURED, "report", "operations", *asked]
    seconds, cpu, peaks = [], [], []
    for _ in range(TRIES):
        output = Path(home) / "report.html"
        begun = time.perf_counter()
        done = subprocess.run(
            [*command, "-o", str(output)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
        )
        seconds.append(time.perf_counter() - begun)
        code, used, peak = json.loads(done.stderr.strip().splitlines()[-1])
        if code:
            raise RuntimeError(f"the report failed with {code}: {done.stderr}")
        cpu.append(used)
        peaks.append(peak)
    median = sorted(seconds)[len(seconds) // 2]
    # Processor time tells what it costs where other work slows the machine down.
    return {"seconds": median, "best_s": min(seconds), "cpu_s": min(cpu), "peak_mb": max(peaks)}
