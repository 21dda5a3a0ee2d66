"""Child processes of the stack: started with a log file each, found again later, ended for sure."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from smartops.errors import SmartOpsError

GRACE_S = 15.0
_APART_S = 1.0
"""Two signals at once may be taken for one."""
CANCEL_S = 60.0
"""How long a worker may take to cancel its runs, which take back what they have made."""
_started_here: list[subprocess.Popen[bytes]] = []


class ServiceFailed(SmartOpsError):
    """A process of the stack ended, or did not come up in time."""


@dataclass(frozen=True)
class Service:
    """A running process of the stack. The start time tells it from a later one with its pid."""

    name: str
    pid: int
    started_at: float
    """Seconds since the epoch, as the operating system says it."""
    address: str
    log: str
    command: tuple[str, ...] = ()
    """What follows ``python -m``."""

    def as_json(self) -> dict[str, Any]:
        """Return the service as a JSON object."""
        return asdict(self)

    @property
    def process(self) -> psutil.Process | None:
        """The process, None when it has gone."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started_at) < 1
            return found if same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def listens_on(self, port: int) -> bool:
        """Return whether it, or a child of it, is the one that listens on a port."""
        process = self.process
        try:
            family = [process, *process.children(recursive=True)] if process else []
            return any(
                connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
                for member in family
                for connection in member.net_connections("tcp")
            )
        except psutil.NoSuchProcess:
            return False

    def last_line(self) -> str:
        """Return the last line of its log that says something."""
        try:
            lines = Path(self.log).read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def start(
    name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path, address: str = ""
) -> Service:
    """Start a process in a session of its own, with its output in a log file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        popen = subprocess.Popen(  # noqa: S603 - our own commands
            [sys.executable, "-m", *command],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    _started_here.append(popen)  # kept, so that the interpreter does not warn of leaving it alone
    created = psutil.Process(popen.pid).create_time()
    return Service(name, popen.pid, created, address, str(log), tuple(command))


def wait_until(
    ready: Callable[[], bool], services: Sequence[Service], *, what: str, limit_s: float
) -> None:
    """Wait for a condition. Raises ServiceFailed when a service dies or the time is over."""
    deadline = time.monotonic() + limit_s
    while not ready():
        for service in services:
            if service.process is None:
                raise ServiceFailed(
                    f"{service.name} ended at once: {service.last_line() or 'it said nothing'}",
                    hint=f"Its log is {service.log}.",
                )
        if time.monotonic() >= deadline:
            logs = ", ".join(service.log for service in services)
            raise ServiceFailed(f"{what} took more than {limit_s:g} s", hint=f"See {logs}.")
        time.sleep(0.05)


def stop_all(
    services: Sequence[Service],
    *,
    grace_s: float = GRACE_S,
    drain_s: Mapping[str, float] | None = None,
) -> list[str]:
    """End the processes and all their children, in order; return the names of those that lived.

    Each gets SIGTERM and the grace time; what is left then, SIGKILL. One that is named in
    ``drain_s`` has so many seconds to let what it does come to its end, before it is told again.
    """
    stopped: list[str] = []
    for service in services:
        process = service.process
        if process is None:
            continue
        family = [process, *_children(process)]
        _signal(family[:1], "terminate")
        longest_s = grace_s
        if drain_s and service.name in drain_s:
            _, alive = psutil.wait_procs(family[:1], timeout=max(drain_s[service.name], _APART_S))
            _signal(alive, "terminate")
            longest_s = CANCEL_S
        _, alive = psutil.wait_procs(family[:1], timeout=longest_s)
        rest = [*alive, *(child for child in family[1:] if child.is_running())]
        _signal(rest, "terminate")
        _, alive = psutil.wait_procs(rest, timeout=3)
        _signal(alive, "kill")
        psutil.wait_procs(alive, timeout=3)
        stopped.append(service.name)
    for popen in _started_here:
        popen.poll()
    return stopped


def stop_strays(home: str) -> None:
    """End the children of this process that serve a home folder, whatever they are.

    An interrupt may come between the start of a process and the moment when it is noted.
    """
    strays = [child for child in psutil.Process().children() if _serves(child, home)]
    family = [member for child in strays for member in (child, *_children(child))]
    _signal(family, "terminate")
    _, alive = psutil.wait_procs(family, timeout=5)
    _signal(alive, "kill")
    psutil.wait_procs(alive, timeout=3)


def _serves(process: psutil.Process, home: str) -> bool:
    try:
        return process.environ().get("SMARTOPS_HOME") == home
    except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal(processes: Sequence[psutil.Process], how: str) -> None:
    for process in processes:
        try:
            getattr(process, how)()
        except psutil.NoSuchProcess:
            continue


def clean_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without the user's own Prefect settings, and with ``extra``."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
    return {**own, **extra}
