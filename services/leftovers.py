"""What a run has left running: it is found and ended, so that nothing is alive after its end."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psutil

from services.zygote import RUN_ID

_BY_THEMSELVES_S = 0.15
"""How long what is left may take to end by itself: a browser sees that its run has gone."""
_SURELY_S = 5.0
_AGAIN_S = 0.01
_GONE = (psutil.NoSuchProcess, psutil.ZombieProcess)


@dataclass(frozen=True)
class Swept:
    """What was alive after the end of a run, each as its name and process id."""

    left_behind: tuple[str, ...] = ()
    still_alive: tuple[str, ...] = ()
    """What could not be ended."""


def children() -> list[int]:
    """Return the process ids of this process's children, also of those that it was given."""
    found: list[int] = []
    for path in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):
            found += map(int, (path / "children").read_text("ascii").split())
    return found


def below(pids: Iterable[int]) -> list[psutil.Process]:
    """Return processes with all that is below them."""
    found: list[psutil.Process] = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found


def of_run(run: UUID, leader: int, among: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return what belongs to a run whose own process was ``leader``.

    What is in its session or its group, what has the run's id in its environment, and whatever is
    below one of these, or in a session with it; also what has ended and is not reaped.
    """
    unsorted = {p.pid: (p, _place(p)) for p in among if p.pid != os.getpid()}
    own = os.getsid(0)
    sessions, found = {leader}, dict[int, psutil.Process]()
    grew = True
    while grew:
        grew = False
        for pid, (process, (session, group, parent)) in list(unsorted.items()):
            if (
                session in sessions
                or group == leader
                or parent in found
                or _run_of(process) == str(run)
            ):
                found[pid] = process
                sessions |= {session} - {own, 0}
                del unsorted[pid]
                grew = True
    return list(found.values())


def _place(process: psutil.Process) -> tuple[int, int, int]:
    """Return a process's session, its group and its parent; zeros for one that has gone."""
    try:
        return os.getsid(process.pid), os.getpgid(process.pid), process.ppid()
    except (ProcessLookupError, *_GONE):
        return 0, 0, 0


def _run_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(RUN_ID)
    except (psutil.Error, OSError):
        return None


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def end(processes: Iterable[psutil.Process]) -> None:
    """End processes at once."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()


async def sweep(run: UUID, leader: int, known: Collection[int]) -> Swept:
    """End what a run has left to this process, which is given all orphans; wait until it is gone.

    ``known`` are the children that are somebody else's: they are not looked at.
    """
    left: dict[int, str] = {}
    seen: set[int] = set()
    began = time.monotonic()
    while True:
        strangers = [pid for pid in children() if pid not in known]
        own = of_run(run, leader, below(strangers)) if strangers else []
        alive = [process for process in own if _lives(process)]
        waited = time.monotonic() - began
        if alive and waited >= _BY_THEMSELVES_S:
            left |= {process.pid: _named(process) for process in alive}
            end(alive)
        seen |= {process.pid for process in own}
        reap(seen.intersection(strangers))
        if not alive or waited >= _SURELY_S:
            still = tuple(_named(process) for process in alive if _lives(process))
            return Swept(tuple(left.values()), still)
        await asyncio.sleep(_AGAIN_S)


def _named(process: psutil.Process) -> str:
    try:
        return f"{process.name()} {process.pid}"
    except _GONE:
        return f"process {process.pid}"


def reap(pids: Iterable[int]) -> None:
    """Take the exit status of those children that have ended, so that none stays as a zombie."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


class Strays:
    """Orphans that no run has been swept for, because they came to light late."""

    def __init__(self, words: Collection[str]) -> None:
        self._words = words
        """What runs' processes are called, or have in their command lines."""
        self._seen: set[int] = set()

    def tidy(self, known: Collection[int], runs: Mapping[UUID, float]) -> list[str]:
        """End what belongs to a run that is not under way any more; return what that was.

        ``runs`` are those that are, with when they began, in seconds since 1970. Also what has
        ended is let go, once it was there before: who started it has had its time to ask how it
        ended.
        """
        strangers = [pid for pid in children() if pid not in known]
        reap(pid for pid in strangers if pid in self._seen)
        again = [p for p in below(self._seen.intersection(strangers)) if _lives(p)]
        self._seen = set(strangers)
        late = [process for process in again if self._is_over(process, runs)]
        names = [_named(process) for process in late]
        end(late)
        return names

    def _is_over(self, process: psutil.Process, runs: Mapping[UUID, float]) -> bool:
        """Return whether the run that a process belongs to is over.

        A mere fork of a run's process shows the environment of the zygote, with no run in it: its
        run is over when all that are under way began later.
        """
        if (run := _run_of(process)) is not None:
            return run not in {str(one) for one in runs}
        try:
            named = [process.name(), *process.cmdline()]
            mere_fork = any(word in self._words for word in named)
            return mere_fork and all(began > process.create_time() for began in runs.values())
        except psutil.Error:
            return False
