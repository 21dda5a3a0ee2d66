"""The whole system on one machine: Prefect's server, the plant, the worker, and what records."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from services import processes
from services.processes import Service, ServiceFailed, clean_environment, wait_until
from smartops.alerts.policy import load_policy
from smartops.audit import schema
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs.event_sources import load_sources
from smartops.plant import field_devices, mosquitto
from smartops.plant.addresses import HOST, Addresses, is_free, plant_folder
from smartops.settings import PROJECT_ROOT, Settings, get_settings

PREFECT_PORT = 4200
_TRIES = 3
PLANT_PORTS = Addresses(5020, 5080, 5081, 5840, 5883)
Say = Callable[[str], None]
_STOP_ORDER = ("bridge", "worker", "plant", "reconciler", "recorder", "alerter", "prefect")
_BESIDE = ("bridge", "alerter")
"""Without these, jobs go on all the same."""


def run_dir(settings: Settings) -> Path:
    """Return the folder with the state of the running stack."""
    return settings.home / "run"


def log_dir(settings: Settings) -> Path:
    """Return the folder with the services' logs."""
    return settings.home / "logs"


def prefect_environment(settings: Settings, api_url: str) -> dict[str, str]:
    """Return Prefect's settings for the embedded server: its state is ours, the user's is not read.

    No figures about use leave the machine.
    """
    home = settings.home / "prefect"
    return {
        "PREFECT_HOME": str(home),
        "PREFECT_PROFILES_PATH": str(home / "profiles.toml"),
        "PREFECT_API_URL": api_url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Without these two, log lines are stored but do not reach a follower's WebSocket.
        "PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED": "true",
        "PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED": "true",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "smartops",
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        "PREFECT_CLI_PROMPT": "false",
        "DO_NOT_TRACK": "1",
        "SMARTOPS_HOME": str(settings.home),
    }


@dataclass
class Stack:
    """The running services, and how to end them."""

    settings: Settings
    api_url: str
    services: list[Service] = field(default_factory=list)
    plant: Addresses | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment for everything that talks to this stack."""
        return clean_environment(prefect_environment(self.settings, self.api_url))

    @property
    def port(self) -> int:
        """The port of Prefect's API."""
        return int(self.api_url.removesuffix("/api").rsplit(":", 1)[1])

    @property
    def own_ports(self) -> list[int]:
        """The ports that its own processes are to listen on."""
        plant = list(vars(self.plant).values()) if self.plant else []
        own_server = any(service.name == "prefect" for service in self.services)
        return [*plant, self.port] if own_server else plant

    @property
    def ui_url(self) -> str:
        """Where a person looks."""
        return self.api_url.removesuffix("/api")

    @property
    def plant_folder(self) -> Path:
        """Where the plant's serial ports are."""
        return plant_folder(self.settings)

    def save(self) -> None:
        """Write down what runs, for `status` and `down`."""
        state = {
            "api_url": self.api_url,
            "plant": vars(self.plant) if self.plant else None,
            "services": [service.as_json() for service in self.services],
        }
        folder = run_dir(self.settings)
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / "stack.json.new"
        draft.write_text(json.dumps(state, indent=1), encoding="utf-8")
        draft.replace(folder / "stack.json")

    def start_again(self, name: str) -> None:
        """Start a service that has ended, as it was started before."""
        (old,) = (service for service in self.services if service.name == name)
        new = processes.start(
            name, old.command, env=self.environment, log=Path(old.log), address=old.address
        )
        self.services[self.services.index(old)] = new
        self.save()

    def alive(self) -> bool:
        """Whether all of its processes run without which jobs do not go on."""
        needed = [service for service in self.services if service.name not in _BESIDE]
        return bool(needed) and all(service.process for service in needed)

    def stop(self, *, drain_s: float = 0.0) -> list[str]:
        """End all processes, the worker first; return the names of those that ran.

        Runs may go on for ``drain_s`` seconds, and are cancelled then: what can be undone is.
        """
        order = {name: index for index, name in enumerate(_STOP_ORDER)}
        ordered = sorted(self.services, key=lambda service: order[service.name])
        stopped = processes.stop_all(ordered, drain_s={"worker": drain_s})
        processes.stop_strays(str(self.settings.home))
        field_devices.tidy(self.plant_folder)
        (run_dir(self.settings) / "stack.json").unlink(missing_ok=True)
        return stopped


def find(settings: Settings | None = None) -> Stack | None:
    """Return the stack that was started for this home folder, running or dead."""
    settings = settings or get_settings()
    try:
        state: dict[str, Any] = json.loads((run_dir(settings) / "stack.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    services = [
        Service(**{**service, "command": tuple(service.get("command", ()))})
        for service in state["services"]
    ]
    plant = Addresses(**state["plant"]) if state["plant"] else None
    return Stack(settings, state["api_url"], services, plant)


def up(say: Say, *, plant: bool = True, api_url: str | None = None) -> Stack:
    """Start what does not run yet; return the stack.

    With ``api_url`` a Prefect server of the user's is used in place of an own one. Raises BadInput
    when another `up` is under way, StoreUnavailable, and ServiceFailed when a service does not
    come up; then nothing is left running.
    """
    settings = get_settings()
    run_dir(settings).mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir(settings) / "up.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise BadInput(f"another `smartops up` is under way for {settings.home}") from None
    try:
        return _up(say, settings, plant=plant, api_url=api_url)
    finally:
        lock.release()


def _up(say: Say, settings: Settings, *, plant: bool, api_url: str | None) -> Stack:
    known = find(settings)
    if known is not None and known.alive():
        if api_url is not None and api_url != known.api_url:
            raise BadInput(
                f"a system with the Prefect server {known.api_url} is running for {settings.home}",
                hint="End it with `smartops down` first.",
            )
        _start_beside(known, say)
        return known
    if known is not None:
        known.stop()
    # What is wrong with these files is said before anything starts.
    if settings.bridge is not None:
        load_sources(settings.bridge)
    if settings.alerts is not None:
        load_policy(settings.alerts)
    say("audit store: bringing its tables up to date")
    store = Store(settings.store_url)
    schema.migrate(store)
    store.close()
    for more_tries in range(_TRIES - 1, -1, -1):
        # Who has lost the usual ports leaves them to the winner, who may not listen on them yet.
        choose = _free_port if more_tries == _TRIES - 1 else _any_port
        stack = Stack(settings, api_url or f"http://{HOST}:{choose(PREFECT_PORT)}/api")
        if plant:
            stack.plant = _plant_ports(choose)
        try:
            _start_services(stack, say, own_server=api_url is None)
        except ServiceFailed:
            stack.stop()
            if not more_tries or all(is_free(port) for port in stack.own_ports):
                raise
            say("another program took one of the ports in the meantime: once more, with others")
        except BaseException:
            stack.stop()
            raise
        else:
            return stack
    raise AssertionError("the last try either returns or raises")


def _plant_ports(choose: Callable[[int], int]) -> Addresses:
    """Return the ports that are chosen for the plant, without one for a broker that is missing."""
    ports = Addresses(*(choose(port) for port in vars(PLANT_PORTS).values()))
    return ports if mosquitto.find_executable() else replace(ports, mqtt_port=0)


def _start_services(stack: Stack, say: Say, *, own_server: bool) -> None:
    if own_server:
        say(f"Prefect server: starting at {stack.ui_url}")
        port = str(stack.port)
        _start(stack, "prefect", ["prefect", "server", "start", "--host", HOST, "--port", port])
    if (ports := stack.plant) is not None:
        say(f"plant: Modbus on {ports.modbus_port}, OPC UA on {ports.opcua_port}")
        say(f"plant: orders {ports.orders_url}, HMI {ports.hmi_url}")
        say(f"plant: MQTT on {ports.mqtt_port}" if ports.mqtt_port else mosquitto.MISSING)
        say(f"plant: scale and scanner in {stack.plant_folder}")
        flags = ["--modbus-port", str(ports.modbus_port), "--orders-port", str(ports.orders_port)]
        flags += ["--hmi-port", str(ports.hmi_port), "--opcua-port", str(ports.opcua_port)]
        flags += ["--mqtt-port", str(ports.mqtt_port)]
        flags += ["--log", str(log_dir(stack.settings) / "plant-log.jsonl")]
        _start(stack, "plant", ["smartops", "plant", *flags], address=ports.hmi_url)
    _start(stack, "recorder", ["services.recorder"])
    wait_until(lambda: _ready(stack), stack.services, what="Prefect's start", limit_s=90)
    _start(stack, "reconciler", ["services.reconciler"])
    _prepare(stack, say)
    # Only now: each of its polls writes to Prefect's database, and SQLite lets one write at a time.
    say("worker: starting on work pool smartops")
    worker = ["prefect", "worker", "start", "--pool", "smartops", "--type", "smartops"]
    _start(stack, "worker", [*worker, "--name", f"{socket.gethostname()}-{os.getpid()}"])
    _start_beside(stack, say)
    stack.save()


def _start_beside(stack: Stack, say: Say) -> None:
    """Start the device bridge and the alerter, each where there is to be one, and none runs."""
    for name, file, says in (
        ("bridge", stack.settings.bridge, "listening to the sources of"),
        ("alerter", stack.settings.alerts, "judging by the rules of"),
    ):
        known = [service for service in stack.services if service.name == name]
        if file is None or any(service.process for service in known):
            continue
        stack.services = [service for service in stack.services if service not in known]
        say(f"{name}: {says} {file}")
        _start(stack, name, [f"services.{name}", str(file)])


def _start(stack: Stack, name: str, command: list[str], address: str = "") -> None:
    log = log_dir(stack.settings) / f"{name}.log"
    address = stack.ui_url if name == "prefect" else address
    stack.services.append(
        processes.start(name, command, env=stack.environment, log=log, address=address)
    )
    stack.save()


def _prepare(stack: Stack, say: Say) -> None:
    """Save the plant's connections and deploy what ships with the program."""
    say("connections and deployments: `prefect deploy --all`")
    if stack.plant is not None:
        _call(stack, ["services.plant_blocks", *map(str, vars(stack.plant).values())])
    _call(stack, ["prefect", "--no-prompt", "deploy", "--all"])


def _call(stack: Stack, command: list[str]) -> None:
    done = subprocess.run(  # noqa: S603 - our own commands
        [sys.executable, "-m", *command],
        env={**stack.environment, "COLUMNS": "500"},  # Prefect breaks its lines to this width
        cwd=PROJECT_ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        log = log_dir(stack.settings) / "prepare.log"
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise ServiceFailed(
            f"`{' '.join(command)}` failed: {lines[-1].strip() if lines else 'no output'}",
            hint=f"Its output is in {log}.",
        )


def _ready(stack: Stack) -> bool:
    """Whether all that listens does, and is ours: another system may have been quicker."""
    by_name = {service.name: service for service in stack.services}
    if "prefect" in by_name and not by_name["prefect"].listens_on(stack.port):
        return False
    if stack.plant is not None:
        # The broker is another program, and OPC UA's address space takes some seconds more.
        later = {stack.plant.opcua_port, stack.plant.mqtt_port}
        at_once = set(vars(stack.plant).values()) - later
        if not all(by_name["plant"].listens_on(port) for port in at_once):
            return False
    return answers(stack.api_url)


def _free_port(wanted: int) -> int:
    """Return the wanted port if it is free, else one that the system gives."""
    return wanted if is_free(wanted) else _any_port(wanted)


def _any_port(_wanted: int) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def answers(api_url: str) -> bool:
    """Return whether a Prefect API answers at this URL."""
    import httpx  # noqa: PLC0415 - not needed where a stack is only looked up

    try:
        return httpx.get(f"{api_url}/health", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False
