"""The zygote: a process that has imported everything, and forks a child for each run.

Started by the warm worker (``services/warm.py``), with which it talks over a socket. It never
starts a thread, an event loop or a connection, so that a fork of it is whole. A child is not its
own but the worker's: it outlives the zygote, and the worker sees how it ends.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

NEEDED = ("prefect.task_engine", "prefect.events.worker", "services.run_child")
"""Without these there is no zygote. What follows may fail, and is then left to the runs."""
OWN = ("flows", "tasks", "blocks")
LATER = (
    "smartops.audit.schema",
    "smartops.audit.shipping",
    "sqlalchemy.dialects.mysql.pymysql",
    "sqlalchemy.dialects.sqlite",
    "prefect._internal.observers",
    "rich._emoji_codes",
)
"""What a run imports only when it comes to need it, as at its end."""
NAME, RUN_NAME = "smartops-zygote", "smartops-run"
"""What the zygote and the processes of runs are called in the system's list of processes."""
_PR_SET_NAME = 15
BIGGEST_ANSWER = 65_536
_LONGEST_REASON = 300
"""How much is told of why a module cannot be imported: all of them have to fit into an answer."""
RUN_ID = "PREFECT__FLOW_RUN_ID"
"""The variable by which a process of a run, and what that has started, can be told from others."""
ENTRYPOINT = "SMARTOPS__ENTRYPOINT"
"""The variable that names a flow which is installed, so that nothing has to be fetched for it."""


@dataclass(frozen=True)
class Known:
    """What the worker knows already: the process of a run need not ask Prefect's server for it."""

    result_storage: str | None = None
    """The block in which results are kept by default."""
    csrf: bool = True
    """Whether the server may want tokens against forged requests."""
    related: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What Prefect names in a run's events, by kind: its flow, deployment, work pool and queue.

    Each with its ``key`` (id; a pool's name), ``id``, ``name``, and ``tags`` where it has such.
    """


@dataclass(frozen=True)
class Order:
    """What a child is to run, and how; all that it needs to know stands in it."""

    flow_run: str
    """The run as the API gave it, in JSON."""
    environment: dict[str, str]
    working_dir: str
    limits: dict[str, int]
    """Resource limits by the names of the ``resource`` module, without ``RLIMIT_``."""
    known: Known = field(default_factory=Known)
    quiet: bool = False
    """Whether what it prints is thrown away."""

    def as_json(self) -> bytes:
        """Return it as it is sent."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Order:
        """Return the order that was sent."""
        found = json.loads(text)
        return cls(**{**found, "known": Known(**found["known"])})


def call_it(name: str) -> None:
    """Give this process the name under which `ps -e` and `top` show it."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def main() -> int:
    """Serve one worker over the socket whose number is given, until that closes it."""
    wire = socket.socket(fileno=int(sys.argv[1]))
    wire.set_inheritable(False)
    call_it(NAME)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the worker's to hear
    preload, without = (set(names.split(",")) - {""} for names in sys.argv[2:4])
    try:
        failed = _load(preload, without)
    except StartsThreads as blamed:
        _say(wire, {"blame": str(blamed)})
        return 1
    importlib.import_module("services.run_child").prepare()
    watched = Watched()
    gc.collect()
    gc.freeze()  # a child that collects does not copy what was there before it
    _say(wire, {"ready": os.getpid(), "failed": failed})
    order = _serve(wire, watched)
    return 0 if order is None else _run(order)


class StartsThreads(Exception):
    """A module has started a thread when it was imported: nothing can be forked after that."""


def _load(preload: Iterable[str], without: Collection[str]) -> dict[str, str]:
    """Import everything; return what could not be, with the reason. Raises StartsThreads."""
    for name in NEEDED:
        importlib.import_module(name)
    names: list[str] = []
    for package in OWN:
        found = importlib.import_module(package)
        names += [f"{package}.{module.name}" for module in pkgutil.iter_modules(found.__path__)]
    failed: dict[str, str] = {}
    for name in [*names, *LATER, *sorted(preload)]:
        if name in without:
            continue
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - also a module that calls sys.exit
            failed[name] = f"{type(error).__name__}: {error}"[:_LONGEST_REASON]
        if threads() > 1:
            raise StartsThreads(name)
    return failed


def threads() -> int:
    """Return how many threads this process has, also such that Python does not know of."""
    return sum(1 for _ in Path("/proc/self/task").iterdir())


class Watched:
    """The files of the project's own modules, and whether they are as they were."""

    def __init__(self) -> None:
        installed = tuple({str(Path(p).resolve()) for p in (sys.base_prefix, sys.prefix)})
        files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
        own = {file for file in files if file and not file.startswith(installed)}
        places = {path for path in sys.path if path.endswith("site-packages")}
        places.add(str(Path(".env").resolve()))  # it may name step kinds, which are loaded by now
        self._seen = {path: _stamp(path) for path in sorted(own | places)}

    def changed(self) -> str | None:
        """Return a file that has changed since, None where there is none."""
        return next((p for p, stamp in self._seen.items() if _stamp(p) != stamp), None)


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _say(wire: socket.socket, answer: dict[str, Any]) -> None:
    wire.send(json.dumps(answer).encode())


def _serve(wire: socket.socket, watched: Watched) -> Order | None:
    """Fork a child per order. Returns in each child with its order; in the zygote at the end."""
    while True:
        message, fds, _, _ = socket.recv_fds(wire, 64, 1)
        if not message:
            return None
        with open(fds[0], "rb") as file:  # noqa: PTH123 - it is a descriptor
            file.seek(0)
            order = Order.from_json(file.read())
        if (path := watched.changed()) is not None:
            _say(wire, {"stale": path})
            continue
        try:
            pid = _fork()
        except OSError as error:
            _say(wire, {"error": f"cannot fork: {error.strerror}"})
            continue
        if pid == 0:
            wire.close()
            return order
        _say(wire, {"pid": pid})


def _fork() -> int:
    """Fork a child in a session of its own; return its id, and 0 in the child itself.

    A process between the two dies at once, so that the child goes to the worker, which has asked
    to be given such orphans: it is the worker that waits for it, and learns its exit status.
    """
    reader, writer = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            if os.fork() == 0:
                os.setsid()
                os.close(reader)
                os.write(writer, os.getpid().to_bytes(8, "little"))
                os.close(writer)
                return 0
        finally:
            if os.getsid(0) != os.getpid():
                os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:  # noqa: PTH123 - it is a descriptor
        said = file.read(8)
    os.waitpid(between, 0)
    if len(said) < 8:
        raise OSError(0, "the system has no room for another process")
    return int.from_bytes(said, "little")


# --- in the child --------------------------------------------------------------------------------


def _run(order: Order) -> int:
    """Become the process that the order asks for, and make the run."""
    import resource  # noqa: PLC0415 - there is none on Windows, where there is no zygote either

    call_it(RUN_NAME)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(order.environment)
    os.chdir(order.working_dir)
    sys.path[0] = order.working_dir  # as `python -m` does
    sys.argv = ["prefect.engine"]
    if order.quiet:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
    with suppress(OSError):  # where memory is short, a run goes before what looks after it
        Path("/proc/self/oom_score_adj").write_text("300", encoding="ascii")
    for name, limit in order.limits.items():
        number = getattr(resource, f"RLIMIT_{name}")
        _, most = resource.getrlimit(number)
        if most != resource.RLIM_INFINITY:
            limit = min(limit, most)  # noqa: PLW2901
        resource.setrlimit(number, (limit, limit))
    from prefect.client.schemas.objects import FlowRun  # noqa: PLC0415 - loaded long ago

    from services.run_child import run  # noqa: PLC0415

    return run(FlowRun.model_validate_json(order.flow_run), order.known)


if __name__ == "__main__":
    sys.exit(main())
