"""The warm worker: what a forked run is, how it is limited, and what happens to its zygote."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import WorkerFlowRunResponse

from services.stack import Stack
from services.worker import SmartOpsWorker, in_turn
from services.zygote import NAME, RUN_NAME
from tests.conftest import PREFECT_LEAVES_SOCKETS, ROOT, wait_for

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
POOL = "warm-tests"


class OwnWorker:
    """A worker beside the stack's, on a pool of its own, with code of a user's own."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.folder = folder
        self.code = folder / "code"
        self.code.mkdir()
        self.log = folder / "worker.log"
        shutil.copy(Path(__file__).with_name("warm_flows.py"), self.code / "warm_flows.py")
        (self.code / "poisoned.py").write_text("raise RuntimeError('no good ' * 20_000)\n")
        (self.code / "threaded.py").write_text(
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
        )
        self._environment = {
            **stack.environment,
            "PYTHONPATH": os.pathsep.join([str(self.code), str(ROOT)]),
            "SMARTOPS_PRELOAD": "warm_flows, poisoned, threaded",
            # Nothing is found by polling within a test: what starts was heard of by push.
            "PREFECT_WORKER_QUERY_SECONDS": "3600",
        }
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", POOL]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--type", "smartops", "--name", "own"],
                env=self._environment,
                cwd=folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def zygote(self) -> psutil.Process | None:
        """Its zygote, if it has one."""
        children = psutil.Process(self.process.pid).children()
        return next((child for child in children if child.name() == NAME), None)

    def said(self, text: str) -> bool:
        """Return whether its log has a text."""
        return text in self.log.read_text("utf-8", "replace")

    def stop(self) -> None:
        """End it and what belongs to it."""
        self.process.terminate()
        self.process.wait(120)


@pytest.fixture(scope="module")
def worker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnWorker]:
    """One worker for the tests of this file."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with (
        temporary_settings({PREFECT_API_URL: stack.api_url}),
        get_client(sync_client=True) as client,
    ):
        client.create_work_pool(
            WorkPoolCreate(
                name=POOL,
                type=SmartOpsWorker.type,
                base_job_template=SmartOpsWorker.get_default_base_job_template(),
            )
        )
    own = OwnWorker(stack, tmp_path_factory.mktemp("worker"))
    try:
        wait_for(lambda: own.said("started!") and own.zygote, "the worker and its zygote", 120)
        yield own
    finally:
        own.stop()


Start = Callable[..., Any]


@pytest.fixture
async def client(in_stack: Stack) -> AsyncIterator[PrefectClient]:
    """A client of the stack's API."""
    async with get_client() as found:
        yield found


@pytest.fixture
async def start(client: PrefectClient, worker: OwnWorker) -> Start:
    """Create a run of one of the flows; return its id."""

    async def call(
        name: str,
        *,
        entrypoint: str = "",
        job_variables: dict[str, Any] | None = None,
        **params: Any,
    ) -> UUID:
        flow = await client.create_flow_from_name(name.replace("_", "-"))
        deployment = await client.create_deployment(
            flow_id=flow,
            name=f"{name}-{os.urandom(4).hex()}",
            work_pool_name=POOL,
            entrypoint=entrypoint or f"warm_flows.{name}",
            job_variables=job_variables or {},
            enforce_parameter_schema=False,
        )
        return (await client.create_flow_run_from_deployment(deployment, parameters=params)).id

    return call


async def ended(client: PrefectClient, run: UUID) -> FlowRun:
    """Return a run once it has ended."""
    import time

    deadline = time.monotonic() + 90
    while True:
        found = await client.read_flow_run(run)
        if found.state is not None and found.state.is_final():
            return found
        assert time.monotonic() < deadline, found.state
        await asyncio.sleep(0.05)


async def what(client: PrefectClient, start: Start, into: Path, **more: Any) -> dict[str, Any]:
    """Run `about_me`; return what it saw."""
    run = await start("about_me", into=str(into), **more)
    assert (await ended(client, run)).state_type is StateType.COMPLETED
    return dict(json.loads(read(into)))


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Return once something is so."""
    async with asyncio.timeout(60):
        while not await is_so():
            await asyncio.sleep(0.1)


async def events_of(client: PrefectClient, run: UUID) -> list[dict[str, Any]]:
    """Return the events of the tasks of a run; Prefect writes them some seconds later."""
    wanted = {
        "filter": {
            "event": {"prefix": ["prefect.task-run."]},
            "related": {"id": [f"prefect.flow-run.{run}"]},
        }
    }
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        answer = await client._client.post("/events/filter", json=wanted)
        found[:] = answer.json()["events"]
        return any(event["event"] == "prefect.task-run.Completed" for event in found)

    await until(there)
    return found


def read(path: Path) -> str:
    return path.read_text("utf-8")


async def test_a_run_is_a_process_of_its_own(
    client: PrefectClient, start: Start, worker: OwnWorker, tmp_path: Path
) -> None:
    """Forked, in a session of its own, the worker's child, named for `ps`, nothing big loaded."""
    seen = await what(client, start, tmp_path / "seen")
    assert seen["name"] == RUN_NAME
    assert (seen["session"], seen["parent"]) == (seen["pid"], worker.process.pid)
    assert seen["loaded"] == []
    assert (seen["folder"], seen["path"]) == (str(worker.folder), str(worker.folder))
    assert worker.zygote is not None
    assert worker.zygote.num_threads() == 1


async def test_the_pools_variables_reach_a_fork(
    client: PrefectClient, start: Start, tmp_path: Path
) -> None:
    """Environment, Prefect's settings, folder and the limit of open files."""
    variables = {
        "env": {"COLOUR": "blue", "PREFECT_LOGGING_LEVEL": "DEBUG"},
        "working_dir": str(tmp_path),
        "open_files_limit": 200,
    }
    seen = await what(client, start, tmp_path / "seen", job_variables=variables)
    assert (seen["colour"], seen["level"], seen["folder"]) == ("blue", 10, str(tmp_path))
    assert seen["open_files"] == 200
    other = await what(client, start, tmp_path / "other")
    assert (other["colour"], other["level"]) == (None, 20)
    assert other["open_files"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


async def test_prefect_knows_all_of_a_run(client: PrefectClient, start: Start) -> None:
    """Its name, version, policy, process and labels, and in its events where it belongs."""
    run = await start("counted", number=7)
    found = await ended(client, run)
    assert found.state_type is StateType.COMPLETED
    assert (found.name, found.empirical_policy.retries) == ("number 7", 1)
    assert found.flow_version == "3"
    assert found.deployment_id is not None
    deployment = await client.read_deployment(found.deployment_id)
    pool = await client.read_work_pool(POOL)

    async def labelled() -> bool:
        now = await client.read_flow_run(run)
        return now.labels.get("prefect.worker.name") == "own" and bool(now.infrastructure_pid)

    await until(labelled)
    for event in await events_of(client, run):
        related = {
            one["prefect.resource.role"]: (one["prefect.resource.id"], one["prefect.resource.name"])
            for one in event["related"]
            if one["prefect.resource.role"] != "tag"
        }
        assert related["flow"] == (f"prefect.flow.{found.flow_id}", "counted")
        assert related["deployment"] == (f"prefect.deployment.{deployment.id}", deployment.name)
        assert related["work-pool"] == (f"prefect.work-pool.{pool.id}", POOL)
        assert related["work-queue"] == (f"prefect.work-queue.{found.work_queue_id}", "default")


async def test_a_run_that_cannot_be_named_has_its_version(
    client: PrefectClient, start: Start
) -> None:
    """The version and the policy wait for the name; without one they go before the next state."""
    found = await ended(client, await start("counted", number="none"))
    assert found.state_type is StateType.FAILED
    assert found.flow_version == "3"
    assert found.empirical_policy.retries == 1


async def test_a_run_with_an_interpreter_of_its_own_is_started_cold(
    client: PrefectClient, start: Start, worker: OwnWorker, tmp_path: Path
) -> None:
    """What an interpreter reads when it starts cannot reach a fork; limits hold all the same."""
    variables = {"env": {"PYTHONUTF8": "1"}, "open_files_limit": 300}
    seen = await what(client, start, tmp_path / "seen", job_variables=variables)
    assert seen["name"] != RUN_NAME
    assert seen["open_files"] == 300


async def test_memory_and_cpu_have_limits(client: PrefectClient, start: Start) -> None:
    """A run that wants more memory fails by itself; one that wants more CPU is killed."""
    small = {"memory_limit": 600}
    greedy = await start("wants_memory", job_variables=small, mib=1500)
    modest = await start("wants_memory", job_variables=small, mib=50)
    hot = await start("wants_cpu", job_variables={"cpu_limit": 1}, seconds=60)
    found = await ended(client, greedy)
    assert found.state is not None
    assert found.state.type is StateType.FAILED
    assert "MemoryError" in (found.state.message or "")
    assert (await ended(client, modest)).state_type is StateType.COMPLETED
    assert (await ended(client, hot)).state_type is StateType.CRASHED


async def test_new_code_is_run_at_once(
    client: PrefectClient, start: Start, worker: OwnWorker, tmp_path: Path
) -> None:
    """A run that is under way keeps its code and goes on; the next one has the new code."""
    goes_on = await start("waits_for", path=str(tmp_path / "go"))
    wait_for((tmp_path / "go.begun").exists, "the run to begin", 60)
    before = worker.zygote
    assert before is not None
    file = worker.code / "warm_flows.py"
    file.write_text(file.read_text() + "\n\nCHANGED = True\n")
    await what(client, start, tmp_path / "seen")
    after = worker.zygote
    assert after is not None
    assert after.pid != before.pid
    (tmp_path / "go").touch()
    assert (await ended(client, goes_on)).state_type is StateType.COMPLETED


async def test_a_killed_zygote_takes_nothing_with_it(
    client: PrefectClient, start: Start, worker: OwnWorker, tmp_path: Path
) -> None:
    """Its children go on; the next run has a new one."""
    goes_on = await start("waits_for", path=str(tmp_path / "go"))
    wait_for((tmp_path / "go.begun").exists, "the run to begin", 60)
    assert worker.zygote is not None
    worker.zygote.kill()
    assert (await what(client, start, tmp_path / "seen"))["name"] == RUN_NAME
    (tmp_path / "go").touch()
    assert (await ended(client, goes_on)).state_type is StateType.COMPLETED


async def test_a_killed_run_is_crashed_at_once(
    client: PrefectClient, start: Start, tmp_path: Path
) -> None:
    """The worker sees the signal; nobody has to find out."""
    run = await start("waits_for", path=str(tmp_path / "never"))
    wait_for((tmp_path / "never.begun").exists, "the run to begin", 60)
    os.kill(int((tmp_path / "never.begun").read_text()), signal.SIGKILL)
    found = await ended(client, run)
    assert found.state is not None
    assert found.state.type is StateType.CRASHED
    assert "-9" in (found.state.message or "")


async def test_modules_that_cannot_be_shared_are_left_out(worker: OwnWorker) -> None:
    """One that fails, and one that starts a thread: both are named in the log."""
    assert worker.said("poisoned cannot be imported, and is left to its own runs: RuntimeError")
    assert worker.said("threaded starts a thread when it is imported: left out")


async def test_a_flow_from_a_file_runs_too(
    client: PrefectClient, start: Start, worker: OwnWorker, tmp_path: Path
) -> None:
    """It is loaded in the fork, from the folder that its deployment names."""
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nfrom prefect import flow\n\n\n"
        "@flow\ndef mine(into: str) -> None:\n    Path(into).write_text('mine')\n"
    )
    run = await start(
        "mine",
        entrypoint=f"{tmp_path}/mine.py:mine",
        job_variables={"working_dir": str(tmp_path)},
        into=str(tmp_path / "seen"),
    )
    assert (await ended(client, run)).state_type is StateType.COMPLETED
    assert (tmp_path / "seen").read_text() == "mine"


async def test_the_first_of_each_deployment_comes_first() -> None:
    """A burst of one deployment does not hold up the others; each keeps its own order."""
    from uuid import uuid4

    flow, few, many = uuid4(), uuid4(), uuid4()

    def run(deployment: UUID, name: str) -> WorkerFlowRunResponse:
        made = FlowRun(id=uuid4(), flow_id=flow, deployment_id=deployment, name=name)
        return WorkerFlowRunResponse(work_pool_id=uuid4(), work_queue_id=uuid4(), flow_run=made)

    burst = [run(many, f"many-{number}") for number in range(3)]
    found = in_turn([*burst, run(few, "few-0"), run(few, "few-1")])
    assert [one.flow_run.name for one in found] == ["many-0", "few-0", "many-1", "few-1", "many-2"]
