"""The event loop of Prefect's server does not wait for a connection that is at work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import asyncio, gc, sys, time
import aiosqlite

LONG = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000000)"

async def main(path):
    async with aiosqlite.connect(path, isolation_level=None) as connection:
        await connection.execute("CREATE TABLE t (x)")
        await connection.execute("INSERT INTO t VALUES (1), (2)")
        gc.collect()
        cursor = await connection.execute("SELECT x FROM t")
        await cursor.fetchone()
        left = [cursor]  # as a task that was cancelled leaves a cursor, in a circle of references
        left.append(left)
        del cursor, left
        work = asyncio.create_task(connection.execute_fetchall(LONG + " SELECT count(*) FROM c"))
        await asyncio.sleep(0.2)
        began = last = time.monotonic()
        stood, kept = 0.0, []
        while not work.done():
            kept.append([[] for _ in range(1000)])  # sets off a collection now and then
            await asyncio.sleep(0.01)
            stood, last = max(stood, time.monotonic() - last), time.monotonic()
        print("stood" if stood > 0.5 * (last - began) else "went on")

if sys.argv[2] == "beside":
    from services.garbage import collect_beside
    collect_beside()
asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.parametrize(("where", "then"), [("beside", "went on"), ("in the loop", "stood")])
def test_a_connection_at_work_does_not_stop_the_loop(tmp_path: Path, where: str, then: str) -> None:
    """Where the collector runs in the loop, it waits for the statement: that is prevented."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "db.sqlite"), where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, f"{then}\n"), done.stderr
