"""What is done to the system: each fault is begun, and made good again."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from services.zygote import NAME
from tests.chaos.system import System

_AWAY_S = 3.0
_LONG_AWAY_S = 25.0
"""Longer than a machine may be silent."""
_ALL = ("prefect", "recorder", "reconciler", "worker")


def kill_a_step(system: System) -> None:
    """Kill the process of a run, in the middle of whatever it does."""
    processes = system.run_processes()
    if processes:
        system.kill(random.choice(processes))


def kill_the_worker(system: System) -> None:
    """Kill the worker; its runs go on without it."""
    system.kill(system.service("worker"))
    system.start_again("worker")


def kill_the_zygote(system: System) -> None:
    """Kill the process that runs are forked from; they go on, and the worker makes another."""
    worker = system.service("worker")
    with suppress(psutil.Error):
        for child in worker.children() if worker else ():
            if child.name() == NAME:
                system.kill(child)


def kill_worker_and_runs(system: System) -> None:
    """Kill the worker and all that it has started."""
    system.kill(system.service("worker"), *system.run_processes())
    system.start_again("worker")


def kill_the_recorder(system: System) -> None:
    """Kill the recorder."""
    system.kill(system.service("recorder"))
    system.start_again("recorder")


def kill_the_reconciler(system: System) -> None:
    """Kill the reconciler."""
    system.kill(system.service("reconciler"))
    system.start_again("reconciler")


def kill_the_database(system: System) -> None:
    """Kill the database, and leave it away for a while."""
    system.database.stop(hard=True)
    time.sleep(_AWAY_S)
    system.start_again("database")


def cut_off_the_database(system: System) -> None:
    """Let the database stand still with its connections open, as behind a broken line."""
    frozen = psutil.Process(system.database.pid)
    frozen.suspend()
    time.sleep(_AWAY_S)
    frozen.resume()
    system.returned_at = time.time()


def cut_off_a_machine(system: System) -> None:
    """Cut the second machine off for a moment: nothing of it may be called dead."""
    _cut_off(system, _AWAY_S)


def cut_off_a_machine_for_long(system: System) -> None:
    """Cut it off until others give up what it does; it comes back, and must not go on with that."""
    began = time.time()
    _cut_off(system, _LONG_AWAY_S)
    system.away.append((began, time.time()))


def _cut_off(system: System, seconds: float) -> None:
    assert system.machine is not None
    system.machine.cable.cut()
    try:
        time.sleep(seconds)
    finally:
        system.machine.cable.mend()
        system.returned_at = time.time()


def kill_prefect(system: System) -> None:
    """Kill Prefect's server."""
    process = system.service("prefect")
    family = process.children(recursive=True) if process else []
    system.kill(process, *family)
    system.start_again("prefect")


def kill_everything(system: System) -> None:
    """Kill the whole tree at once, as a power cut does; the plant goes on."""
    family: list[psutil.Process | None] = []
    for name in _ALL:
        process = system.service(name)
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                family += [process, *process.children(recursive=True)]
    family += system.run_processes()
    system.database.stop(hard=True)
    system.kill(*family)
    system.start_again("database", "prefect", "recorder", "reconciler", "worker")


def fill_the_disk(system: System) -> None:
    """Fill the disk of the journal, for a while."""
    ballast = system.journal / "ballast"
    try:
        _fill(ballast)
        time.sleep(_AWAY_S)
    finally:
        ballast.unlink(missing_ok=True)
        system.returned_at = time.time()


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65_536))


FAULTS = (
    kill_a_step,
    kill_a_step,
    kill_the_zygote,
    kill_the_worker,
    kill_worker_and_runs,
    kill_the_recorder,
    kill_the_reconciler,
    kill_the_database,
    cut_off_the_database,
    kill_prefect,
    kill_everything,
)
OF_MACHINES = (cut_off_a_machine, cut_off_a_machine_for_long)


class Faults:
    """Does one thing after the other: each once first, then by chance; the full disk once."""

    def __init__(self, system: System, seed: int) -> None:
        self._system = system
        self._random = random.Random(seed)
        self._all: list[Callable[[System], None]] = [
            *FAULTS,
            *(OF_MACHINES if system.machine else ()),
        ]
        self._next = [*self._all, *((fill_the_disk,) if system.own_disk else ())]
        self._random.shuffle(self._next)
        self.count: Counter[str] = Counter()

    def do_one(self) -> str:
        """Do the next; return its name."""
        fault = self._next.pop() if self._next else self._random.choice(self._all)
        fault(self._system)
        name = fault.__name__
        self.count[name] += 1
        return name
