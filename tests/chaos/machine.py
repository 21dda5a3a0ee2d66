"""A second machine: a worker and what records, in a network of their own that can be cut off.

It is a network namespace with a cable (a pair of virtual interfaces) to this one. Its processes
have a home of their own, and share the database and Prefect's server, as another machine would.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from services import processes
from services.processes import Service
from services.stack import Stack, prefect_environment
from services.worker import SmartOpsWorker

POOL = "elsewhere"
HERE, THERE = "169.254.77.1", "169.254.77.2"
"""Addresses that are never routed."""
_COPIED = ("flow_id", "entrypoint", "path", "parameter_openapi_schema", "job_variables", "tags")
_START_S = 90.0


@dataclass
class Cable:
    """What joins the second machine to this one."""

    name: str
    holder: subprocess.Popen[bytes]
    """Keeps the namespace: it ends with its last process, and the cable with it."""

    def inside(self, *command: str) -> list[str]:
        """Return the command that does something on the machine."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *command]

    def cut(self) -> None:
        """Let nothing pass: connections stand still, and new ones find nobody."""
        _do("ip", "link", "set", self.name, "down")

    def mend(self) -> None:
        """Let all pass again."""
        _do("ip", "link", "set", self.name, "up")


@contextmanager
def cable() -> Iterator[Cable | None]:
    """Give a network with a cable to it; None where this user or system cannot have one."""
    try:
        # `cat` waits for as long as this process lives, however that ends.
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        yield None
        return
    try:
        yield _laid(holder)
    finally:
        holder.kill()
        holder.communicate()


def _laid(holder: subprocess.Popen[bytes]) -> Cable | None:
    if _first_line(holder) != b"ready\n":
        return None
    made = Cable(f"so{os.getpid()}", holder)
    pair = ("type", "veth", "peer", "name", "there", "netns", str(holder.pid))
    try:
        _do("ip", "link", "add", made.name, *pair)
        _do("ip", "addr", "add", f"{HERE}/30", "dev", made.name)
        _do("ip", "link", "set", made.name, "up")
        _do(*made.inside("ip", "addr", "add", f"{THERE}/30", "dev", "there"))
        _do(*made.inside("ip", "link", "set", "there", "up"))
    except subprocess.CalledProcessError:
        return None
    return made


def _do(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


@dataclass
class Machine:
    """The second machine, as it runs."""

    cable: Cable
    home: Path
    deployment: str
    """The id of the job's deployment whose runs it makes."""
    services: list[Service] = field(default_factory=list)
    relays: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def journal(self) -> Path:
        """The folder of its journals."""
        return self.home / "journal"

    def stop(self) -> None:
        """End its processes, the worker first. Once is enough."""
        processes.stop_all(list(reversed(self.services)))
        processes.stop_strays(str(self.home))
        while self.relays:
            relay = self.relays.pop()
            relay.kill()
            relay.communicate()


def start(cable: Cable, folder: Path, stack: Stack, url: str) -> Machine:
    """Start the second machine beside a stack, with the database at a URL of its own."""
    home = folder / "second"
    (home / "journal").mkdir(parents=True)
    ports = [str(port) for port in stack.own_ports if port]
    module = (sys.executable, "-m", "tests.chaos.relay")
    with httpx.Client(base_url=stack.api_url, timeout=30, trust_env=False) as client:
        made = Machine(cable, home, _deployed(client))
    for command in (
        [*module, HERE, "127.0.0.1", *ports],
        cable.inside(*module, "127.0.0.1", HERE, *ports),
    ):
        made.relays.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        if _first_line(made.relays[-1]) != b"ready\n":
            raise RuntimeError(f"`{' '.join(command)}` has failed")
    environment = {
        **stack.environment,
        **prefect_environment(stack.settings.model_copy(update={"home": home}), stack.api_url),
        "SMARTOPS_DATABASE_URL": url,
        "SMARTOPS_SEAL_KEYS": str(stack.settings.keys_dir),
        "SMARTOPS_SEAL_ANCHORS": f"file:{stack.settings.home / 'anchors' / 'seals.jsonl'}",
    }
    worker = ["prefect", "worker", "start", "--pool", POOL, "--type", "smartops"]
    for name, module_and_arguments in (
        ("recorder", ["services.recorder"]),
        ("reconciler", ["services.reconciler"]),
        ("worker", [*worker, "--name", POOL]),
    ):
        made.services.append(_start(cable, name, module_and_arguments, environment, home))
    log = Path(made.services[-1].log)
    processes.wait_until(
        lambda: b"started!" in log.read_bytes(),
        made.services,
        what="the second machine's start",
        limit_s=_START_S,
    )
    return made


def _start(
    cable: Cable, name: str, command: Sequence[str], environment: dict[str, str], home: Path
) -> Service:
    log = home / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            cable.inside(sys.executable, "-m", *command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    created = psutil.Process(process.pid).create_time()
    return Service(name, process.pid, created, "", str(log), tuple(command))


def _deployed(client: httpx.Client) -> str:
    """Deploy the job once more, on the pool of the second machine; return its id."""
    template = SmartOpsWorker.get_default_base_job_template()
    pool = {"name": POOL, "type": SmartOpsWorker.type, "base_job_template": template}
    client.post("/work_pools/", json=pool).raise_for_status()
    first = client.get("/deployments/name/run-job/run-job").raise_for_status().json()
    copy = {name: first[name] for name in _COPIED} | {"name": POOL, "work_pool_name": POOL}
    return str(client.post("/deployments/", json=copy).raise_for_status().json()["id"])
