"""The system under test: the whole stack on MariaDB, with a journal on a disk of its own.

Beside it a second machine makes a third of the runs, where there can be one.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import sqlalchemy as sa

from scripts import mariadb
from scripts.mariadb import MariaDB
from services import stack as stacks
from services.stack import Stack
from services.zygote import RUN_NAME
from smartops.settings import get_settings
from tests.chaos import machine
from tests.chaos.machine import Machine

KEPT = "kept"
"""The folder where each journal has a second name, so that it can be counted when it is gone."""
_DISK = "24m"
_LIMITS = {
    "SMARTOPS_JOURNAL_RESERVE": "2MB",
    "SMARTOPS_JOURNAL_LIMIT": "20MB",
    "SMARTOPS_SEAL_INTERVAL": "1s",
}


@dataclass
class System:
    """The stack, its database, and what was done to them."""

    stack: Stack
    database: MariaDB
    own_disk: bool
    machine: Machine | None = None
    returned_at: float = 0.0
    """When the last thing that was away came back."""
    deaths: list[float] = field(default_factory=list)
    away: list[tuple[float, float]] = field(default_factory=list)
    """From when to when the second machine was cut off for long enough to be given up."""

    @property
    def journal(self) -> Path:
        """The folder of the journals."""
        return self.stack.settings.journal_dir

    @property
    def journals(self) -> list[Path]:
        """The folders of the journals of all machines."""
        return [self.journal, *([self.machine.journal] if self.machine else ())]

    def service(self, name: str) -> psutil.Process | None:
        """Return the process of a service."""
        (found,) = (service for service in self.stack.services if service.name == name)
        return found.process

    def run_processes(self) -> list[psutil.Process]:
        """Return the processes that execute runs, with their worker alive or not."""
        home = str(self.stack.settings.home)
        found = []
        for process in psutil.process_iter(["cmdline", "name"]):
            with suppress(psutil.Error):
                cold = "prefect.engine" in (process.info["cmdline"] or ())
                is_run = cold or process.info["name"] == RUN_NAME
                if is_run and process.environ().get("SMARTOPS_HOME") == home:
                    found.append(process)
        return found

    def kill(self, *processes: psutil.Process | None) -> None:
        """Kill processes as hard as can be."""
        for process in processes:
            if process is not None:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.deaths.append(time.time())

    def start_again(self, *names: str) -> None:
        """Start services that were killed, Prefect's server first; wait until they are there."""
        for name in names:
            if name == "database":
                self.database.start()
            else:
                self.stack.start_again(name)
            if name == "prefect":
                while not stacks.answers(self.stack.api_url):
                    time.sleep(0.1)
        self.returned_at = time.time()


@contextmanager
def system(folder: Path) -> Iterator[System]:
    """Give a running system, with its state in a folder."""
    home = folder / "home"
    (home / "journal").mkdir(parents=True)
    own_disk = _mount(home / "journal")
    with ExitStack() as whole:
        wire = whole.enter_context(machine.cable())
        addresses = f"127.0.0.1,{machine.HERE}" if wire else "127.0.0.1"
        database = whole.enter_context(
            mariadb.running(folder, [f"--bind-address={addresses}", "--skip-name-resolve"])
        )
        engine = sa.create_engine(f"{database.url}/", isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE chaos")
            connection.exec_driver_sql("CREATE USER second@'%%'")
            connection.exec_driver_sql("GRANT ALL ON *.* TO second@'%%'")
        engine.dispose()
        if wire:
            os.environ["SMARTOPS_LOCKS"] = "database"
        os.environ.update(
            SMARTOPS_HOME=str(home), SMARTOPS_DATABASE_URL=f"{database.url}/chaos", **_LIMITS
        )
        get_settings.cache_clear()
        running = stacks.up(lambda text: print(f"  ({text})"))
        made = System(running, database, own_disk)
        keeping = _Keeper(made)
        keeping.start()
        try:
            if wire:
                url = f"mysql+pymysql://second@{machine.HERE}:{database.port}/chaos"
                print(f"  (a second machine: starting on work pool {machine.POOL})")
                made.machine = machine.start(wire, folder, running, url)
            else:
                print("  (no second machine: it takes root, `ip` and `unshare`)")
            yield made
        finally:
            if made.machine:
                made.machine.stop()
            running.stop()
            keeping.stop()
            made.kill(*made.run_processes())
            if own_disk:
                subprocess.run(["umount", str(home / "journal")], check=False)


def _mount(folder: Path) -> bool:
    """Give a folder a small disk of its own, if this user may."""
    options = ["-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(["mount", *options], check=False, capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0


class _Keeper(threading.Thread):
    """Gives every journal a second name."""

    def __init__(self, system: System) -> None:
        super().__init__(daemon=True)
        self._system = system
        self._stop_it = threading.Event()

    def run(self) -> None:
        while not self._stop_it.wait(0.02):
            self.keep()

    def keep(self) -> None:
        # With its log: a journal whose writer was killed is whole only together with that.
        for folder in self._system.journals:
            kept = folder / KEPT
            kept.mkdir(exist_ok=True)
            for path in (*folder.glob("*.journal"), *folder.glob("*-wal")):
                with suppress(OSError):
                    os.link(path, kept / path.name)

    def stop(self) -> None:
        self._stop_it.set()
        self.join()
