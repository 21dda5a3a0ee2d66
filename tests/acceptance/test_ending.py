"""How runs end, and how their worker does: nothing is left alive, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, StateType

from reports.runs import RunDetail, get_run
from services.stack import Stack
from services.worker import SmartOpsWorker
from services.zygote import RUN_ID
from smartops.audit import models
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs import loader
from tests.acceptance.conftest import PlantControl
from tests.chaos import cancelling
from tests.conftest import PREFECT_LEAVES_SOCKETS, ROOT, wait_for
from tests.faulty_wire import Wire, wire_to

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
POOL = "ends"


@dataclass
class Workers:
    """Starts workers beside the stack's, on a pool of their own."""

    stack: Stack
    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start one; return when it takes runs."""
        log = self.folder / f"worker-{len(self.processes)}.log"
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--type", "smartops", *options],
                env={
                    **self.stack.environment,
                    "PYTHONPATH": os.pathsep.join([str(self.folder), str(ROOT)]),
                    **environment,
                },
                cwd=self.folder,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(process)
        wait_for(lambda: b"started!" in log.read_bytes(), "the worker", 120)
        return process


@pytest.fixture(scope="module")
def workers(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Workers for the tests of this file."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: stack.api_url}),
        get_client(sync_client=True) as client,
    ):
        template = SmartOpsWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type=SmartOpsWorker.type, base_job_template=template)
        )
    made = Workers(stack, tmp_path_factory.mktemp("workers"))
    shutil.copy(Path(__file__).with_name("ending_flows.py"), made.folder / "ending_flows.py")
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.terminate()
            process.wait(120)


@contextmanager
def wire_in_thread(port: int) -> Iterator[Wire]:
    """Give a wire to a port, which works while the test waits."""
    ready, leave = threading.Event(), threading.Event()
    made: list[Wire] = []

    async def serve() -> None:
        async with wire_to(port, 1.0) as wire:
            made.append(wire)
            ready.set()
            await asyncio.to_thread(leave.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(30)
    try:
        yield made[0]
    finally:
        leave.set()
        thread.join()


@pytest.fixture
async def client(in_stack: Stack) -> AsyncIterator[PrefectClient]:
    """A client of the stack's API."""
    async with get_client() as found:
        yield found


@pytest.fixture
def ledger(in_stack: Stack) -> Iterator[Store]:
    """The stack's audit store."""
    store = Store(in_stack.settings.store_url)
    yield store
    store.close()


async def deploy(
    client: PrefectClient, entrypoint: str, variables: dict[str, Any] | None = None
) -> UUID:
    """Make a deployment on the pool of these workers; return its id."""
    flow = await client.create_flow_from_name(entrypoint.rpartition(".")[2].replace("_", "-"))
    return await client.create_deployment(
        flow_id=flow,
        name=os.urandom(4).hex(),
        work_pool_name=POOL,
        entrypoint=entrypoint,
        job_variables=variables or {},
        enforce_parameter_schema=False,
    )


async def start(
    client: PrefectClient, entrypoint: str, variables: dict[str, Any] | None = None, **params: Any
) -> UUID:
    """Create a run; return its id."""
    made = await deploy(client, entrypoint, variables)
    return (await client.create_flow_run_from_deployment(made, parameters=params)).id


async def ended(client: PrefectClient, run: UUID, limit_s: float = 120) -> FlowRun:
    """Return a run once it has ended."""
    deadline = time.monotonic() + limit_s
    while True:
        found = await client.read_flow_run(run)
        if found.state is not None and found.state.is_final():
            return found
        assert time.monotonic() < deadline, found.state
        await asyncio.sleep(0.1)


def process_row(store: Store, run: UUID) -> Any:
    """Return what is on record of a run's process, once that has ended."""
    table = models.run_process

    def found() -> Any:
        with store.reading() as connection:
            row = connection.execute(table.select().where(table.c.run_id == run)).first()
        return row if row is not None and row.exited_at is not None else None

    return wait_for(found, "the end of the process on record", 60)


def lines(path: Path) -> Counter[str]:
    return Counter(path.read_text("ascii").split()) if path.exists() else Counter()


async def test_what_a_run_leaves_is_ended_and_on_record(
    workers: Workers, client: PrefectClient, ledger: Store
) -> None:
    """Killed in the middle, by somebody or by its limit: why, and what was alive after it."""
    worker = workers.start()
    killed = await start(client, "ending_flows.leaves_a_program")
    limited = await start(client, "ending_flows.burns_cpu", {"cpu_limit": 1})
    for run in (killed, limited):
        assert (await ended(client, run)).state_type is StateType.CRASHED
    row = process_row(ledger, killed)
    assert (row.exit_status, row.cause, row.still_alive) == (-9, "killed by SIGKILL", "[]")
    assert row.left_behind.startswith('["sleep ')
    for process in psutil.process_iter():
        try:
            assert process.environ().get(RUN_ID) != str(killed)
        except psutil.Error:
            continue
    row = process_row(ledger, limited)
    assert row.cause == "killed by SIGKILL: it had used the 1 s of CPU time that it may"
    assert (row.left_behind, row.still_alive) == ("[]", "[]")
    family = psutil.Process(worker.pid).children(recursive=True)
    assert [process.name() for process in family] == ["smartops-zygote"]
    worker.terminate()
    assert worker.wait(60) == 0


async def test_a_rolling_restart_loses_nothing(
    workers: Workers, client: PrefectClient, tmp_path: Path
) -> None:
    """What is under way ends, what is not begun another worker makes: each once, and no crash."""
    first = workers.start("--limit", "2")
    path = tmp_path / "said"
    runs = [
        await start(client, "ending_flows.takes_a_while", path=str(path), seconds=8)
        for _ in range(5)
    ]
    wait_for(lambda: lines(path)["begin"] >= 2, "two runs under way", 60)
    first.terminate()
    second = workers.start("--limit", "5")
    states = [(await ended(client, run)).state_type for run in runs]
    assert states == [StateType.COMPLETED] * 5
    assert lines(path) == {"begin": 5, "end": 5}
    assert first.wait(60) == 0
    second.terminate()
    assert second.wait(60) == 0


HELD = """
name: held
steps:
  - {id: hold, kind: wait, duration: 50s}
  - id: end
    kind: rest.request
    always: true
    service: plant-orders
    method: POST
    path: /shift-log
    body: {line: line-1, text: held end, good: 1, scrap: 0}
"""


async def test_a_second_signal_cancels(
    workers: Workers, client: PrefectClient, ledger: Store, plant_control: PlantControl
) -> None:
    """So does the limit: the run ends in order, and the worker then, without an error."""
    for limit, signals in (("60s", 2), ("1s", 1)):
        before = len(plant_control.log("shift-log.post"))
        worker = workers.start(SMARTOPS_DRAIN_LIMIT=limit)
        run = await start(client, "flows.run_job.run_job", job=loader.loads(HELD).document())
        wait_for(partial(_holds, ledger, run), "the step under way", 60)
        worker.terminate()
        if signals > 1:
            with pytest.raises(subprocess.TimeoutExpired):
                worker.wait(2)
            worker.terminate()
        assert worker.wait(60) == 0
        assert (await ended(client, run)).state_type is StateType.CANCELLED
        assert _detail(ledger, run).run.state == "cancelled"
        posts = plant_control.log("shift-log.post")[before:]
        assert [post["text"] for post in posts] == ["held end"]


async def test_a_run_that_was_deleted_does_not_hold_up_its_worker(
    workers: Workers, client: PrefectClient, tmp_path: Path
) -> None:
    """Prefect knows nothing of it any more: its process is ended, and the worker ends with 0."""
    worker = workers.start(SMARTOPS_DRAIN_LIMIT="1s")
    path = tmp_path / "said"
    run = await start(client, "ending_flows.takes_a_while", path=str(path), seconds=300)
    wait_for(lambda: lines(path)["begin"], "the run under way", 60)
    await client.delete_flow_run(run)
    worker.terminate()
    assert worker.wait(60) == 0
    assert lines(path) == {"begin": 1}


def _holds(store: Store, run: UUID) -> bool:
    try:
        detail = get_run(store, str(run))
    except BadInput:
        return False
    return "running" in [step.state for step in detail.steps]


def _detail(store: Store, run: UUID) -> RunDetail:
    def found() -> RunDetail | None:
        detail = get_run(store, str(run))
        return detail if detail.run.ended_at else None

    detail = wait_for(found, "the end on record", 60)
    assert isinstance(detail, RunDetail)
    return detail


STEPS = "name: goes-on\nsteps:\n" + "".join(
    f"  - {{id: s{n}, kind: wait, duration: 1s{f', needs: [s{n - 1}]' if n else ''}}}\n"
    for n in range(12)
)


async def test_runs_go_on_while_prefect_is_away(
    workers: Workers, client: PrefectClient, ledger: Store, in_stack: Stack, tmp_path: Path
) -> None:
    """Their steps are made, their end is reported when it is back; the worker takes runs again.

    Prefect's own tries end long before that, here after some two seconds.
    """
    few_tries = {"env": {"PREFECT_CLIENT_MAX_RETRIES": "1"}}
    file = tmp_path / "lines"
    with wire_in_thread(in_stack.port) as wire:
        worker = workers.start(PREFECT_API_URL=f"http://127.0.0.1:{wire.port}/api")
        spec = loader.loads(STEPS).document()
        run = await start(client, "flows.run_job.run_job", few_tries, job=spec)
        plain = "ending_flows.takes_a_while"
        other = await start(client, plain, few_tries, path=str(file), seconds=3)
        wait_for(lambda: _holds(ledger, run), "the first step under way", 60)
        wait_for(lambda: lines(file)["begin"], "the other run to begin", 60)
        wire.fault = "request-reset"
        began = time.monotonic()
        detail = _detail(ledger, run)
        assert detail.run.state == "completed", detail.run.message
        while time.monotonic() < began + 12:
            await asyncio.sleep(0.1)
        wire.fault = ""
        for one in (run, other):
            found = await ended(client, one)
            assert found.state_type is StateType.COMPLETED, found.state
            names = [state.name for state in await client.read_flow_run_states(one)]
            assert "Failed" not in names
        again = await start(client, plain, path=os.devnull, seconds=0)
        assert (await ended(client, again)).state_type is StateType.COMPLETED
        worker.terminate()
        assert worker.wait(60) == 0


async def test_cancelled_at_any_moment(
    workers: Workers, client: PrefectClient, in_stack: Stack, tmp_path: Path
) -> None:
    """With steps of all kinds under way: a second after its time, nothing of a run is left.

    `python -m tests.chaos.cancelling` does it two hundred times.
    """
    worker = workers.start(SMARTOPS_PYTHON_PACKAGES="tests")
    made = await deploy(client, "flows.run_job.run_job")
    await asyncio.to_thread(cancelling.deploy_child, in_stack, tmp_path)
    count = await asyncio.to_thread(cancelling.cancel_in, in_stack, 3, made)
    assert cancelling.well(count), count
    worker.terminate()
    assert worker.wait(60) == 0
