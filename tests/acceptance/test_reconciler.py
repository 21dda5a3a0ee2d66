"""Runs that die get their end; flows that never heard of SmartOps are on record; slots are told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import psutil
import pytest
import sqlalchemy as sa
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, DeploymentUpdate
from prefect.client.schemas.objects import State, StateType
from prefect.client.schemas.schedules import CronSchedule
from uuid6 import uuid7

from reports.runs import RunDetail, get_run
from services.dead_runs import PREFECT_STATES, DeadRuns
from services.foreign_runs import ForeignRuns
from services.outside_changes import SETTLED, UNKNOWN, OutsideChanges
from services.prefect_api import prefect_api
from services.slots import Slots
from services.stack import Stack
from services.submitting import submit
from smartops.audit import models, open_runs, shipping
from smartops.audit.events import Event
from smartops.audit.journal import get_journal
from smartops.audit.open_runs import OpenRun
from smartops.audit.revisions import OUTSIDE, changes_of, spec_on_record
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs import loader
from smartops.jobs.revision import revision_of
from smartops.people import who_is_here
from smartops.settings import Settings, get_settings
from tasks.run_context import FLOW
from tests.acceptance.conftest import Cli, ship
from tests.conftest import PREFECT_LEAVES_SOCKETS, wait_for

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]

JOB = """
name: long-hold
steps:
  - {id: speed, kind: modbus.write, device: plant-line, tag: speed_setpoint, value: 90}
  - {id: hold, kind: wait, needs: [speed], duration: 50s, effect: unsafe}
  - {id: look, kind: wait, needs: [speed], duration: 50s}
"""


@pytest.fixture
def ledger(in_stack: Stack) -> Iterator[Store]:
    """The stack's audit store."""
    store = Store(in_stack.settings.store_url)
    yield store
    store.close()


def detail(store: Store, run_id: UUID) -> RunDetail | None:
    try:
        return get_run(store, str(run_id))
    except BadInput:
        return None


def run_process(home: Path, run_id: UUID) -> psutil.Process | None:
    """Return the process that executes a run, if it lives."""
    store = Store(Settings(home=home).store_url)
    try:
        found = detail(store, run_id)
    finally:
        store.close()
    try:
        process = psutil.Process(found.run.pid) if found is not None else None
        return process if process and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


async def test_a_killed_run_gets_its_end(in_stack: Stack, ledger: Store, cli: Cli) -> None:
    """In the record with the evidence, and in Prefect, with the tasks that were under way."""
    run_id, _ = await submit("long-hold", loader.loads(JOB), {})

    def both_wait() -> bool:
        found = detail(ledger, run_id)
        return found is not None and [s.state for s in found.steps].count("running") == 2

    wait_for(both_wait, "both steps under way", 60)
    process = run_process(in_stack.settings.home, run_id)
    assert process is not None
    process.kill()

    def ended() -> RunDetail | None:
        found = detail(ledger, run_id)
        return found if found and found.run.state != "running" else None

    found = wait_for(ended, "the end on record", 30)
    assert isinstance(found, RunDetail)
    assert found.run.state == "crashed"
    assert found.run.message.startswith("its process died (killed by SIGKILL) during ")
    assert {step.id: step.state for step in found.steps} == {
        "speed": "completed",
        "hold": "unknown_outcome",
        "look": "crashed",
    }
    assert found.run.evidence is not None
    assert found.run.evidence["pid"] == process.pid
    assert found.run.evidence["unknown_outcome"] == ["hold"]
    async with get_client() as client:
        deadline = time.monotonic() + 30
        while True:
            state = (await client.read_flow_run(run_id)).state
            if state is not None and state.is_final():
                break
            assert time.monotonic() < deadline
    assert state.type is StateType.CRASHED
    done = cli("audit", "verify", "--tables")
    assert done.returncode == 0, done.stdout + done.stderr


PLAIN = """
from prefect import flow, task, get_run_logger

@task
def double(x):
    get_run_logger().info("doubling %s", x)
    return 2 * x

@flow(name="never-heard-of-it")
def plain(x: int = 4):
    get_run_logger().info("begin")
    double(x)
    double(x + 1)
    get_run_logger().info("end")

plain()
"""


def test_a_flow_that_never_heard_of_us(in_stack: Stack, ledger: Store, tmp_path: Path) -> None:
    """Its run, its tasks and its log lines are on record once, without a line of ours in it."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "SMARTOPS_"))}
    own["PREFECT_API_URL"] = in_stack.api_url
    script = tmp_path / "plain.py"
    script.write_text(PLAIN)
    subprocess.run([sys.executable, str(script)], env=own, cwd=tmp_path, check=True, timeout=90)

    def on_record() -> RunDetail | None:
        run = models.job_run
        with ledger.reading() as connection:
            row = connection.execute(
                sa.select(run.c.id, run.c.log_lines).where(run.c.job == "never-heard-of-it")
            ).first()
        found = detail(ledger, row.id) if row else None
        if row is None or found is None or row.log_lines < 6:
            return None
        return found if found.run.state == "completed" and len(found.steps) == 2 else None

    found = wait_for(on_record, "the run on record", 40)
    assert isinstance(found, RunDetail)
    assert (found.run.kind, found.run.params) == ("flow", {"x": 4})
    assert [step.state for step in found.steps] == ["completed", "completed"]
    with ledger.reading() as connection:
        line = models.log_line
        texts = connection.execute(
            sa.select(line.c.message)
            .where(line.c.run_id == found.run.run_id)
            .order_by(line.c.number)
        ).scalars()
        assert [text for text in texts if "doubling" in text] == ["doubling 4", "doubling 5"]


async def test_slots_are_told(in_stack: Stack, ledger: Store) -> None:
    """A deployment whose worker is not there: its slots are missed, each with a reason, once."""
    now = datetime.now(UTC)
    async with get_client() as client:
        flow_id = await client.create_flow_from_name("nobody-runs-it")
        schedule = CronSchedule(cron="* * * * *", timezone="UTC")
        deployment = await client.create_deployment(
            flow_id,
            "nobody-runs-it",
            schedules=[DeploymentScheduleCreate(schedule=schedule, active=True)],
        )
    slots = Slots(ledger)

    def told() -> list[Any]:
        ship(ledger, in_stack)
        table = models.slot
        with ledger.reading() as connection:
            query = sa.select(table).where(table.c.deployment == str(deployment))
            return list(connection.execute(query.order_by(table.c.due_at)))

    async with prefect_api() as api:
        deployments = await api.deployments()
        await slots.tell(api, deployments, now + timedelta(minutes=6, seconds=30))
        first = told()
        await slots.tell(api, deployments, now + timedelta(minutes=6, seconds=30))
        assert len(told()) == len(first)
    async with get_client() as client:
        await client.delete_deployment(deployment)
    assert len(first) >= 4
    assert {row.outcome for row in first} == {"missed"}
    assert all(row.reason for row in first)
    gaps = {b.due_at - a.due_at for a, b in pairwise(first)}
    assert gaps == {timedelta(minutes=1)}


async def test_changes_made_in_prefect_are_on_record(in_stack: Stack, ledger: Store) -> None:
    """Made, changed, paused and deleted past our commands: each once, with its revision."""
    outside, ahead = OutsideChanges(ledger), 2 * SETTLED
    spec = loader.loads(JOB.replace("long-hold", "made-in-prefect"))
    other = loader.loads(JOB.replace("long-hold", "made-in-prefect").replace("90", "91"))

    async def tell() -> list[tuple[str, str | None]]:
        await asyncio.to_thread(ship, ledger, in_stack)
        async with prefect_api() as api:
            now = datetime.now(UTC) + ahead
            for moment in (now, now + SETTLED):  # what is gone is told when it stays away
                await outside.tell(await api.deployments(), moment)
        await asyncio.to_thread(ship, ledger, in_stack)
        changes = changes_of(ledger, spec.name)
        assert {(change.source, change.person) for change in changes} == {(OUTSIDE, UNKNOWN)}
        return [(change.action, change.revision) for change in reversed(changes)]

    async with get_client() as client:
        flow_id = await client.create_flow_from_name(FLOW)
        made = await client.create_deployment(
            flow_id, spec.name, parameters={"job": spec.document()}, enforce_parameter_schema=False
        )
        first, second = revision_of(spec), revision_of(other)
        expected = [("created", first)]
        assert await tell() == expected
        update = DeploymentUpdate(parameters={"job": other.document()}, paused=True)
        await client.update_deployment(made, update)
        expected += [("updated", second), ("paused", second)]
        assert await tell() == expected
        assert await tell() == expected, "nothing is told twice"
        assert spec_on_record(ledger, second) == other
        await client.delete_deployment(made)
        assert await tell() == [*expected, ("deleted", None)]


def test_who_asked_and_what_the_worker_saw(cli: Cli, ledger: Store) -> None:
    """A run by the command line: the person, the worker's claim, the process, its exit."""
    import json

    done = cli("job", "run", "line-check", "--wait", "--json")
    run_id = UUID(json.loads(done.stdout)["run_id"])
    found = detail(ledger, run_id)
    assert found is not None
    assert found.run.requested_by == who_is_here()
    by = json.loads(cli("run", "list", "--by", who_is_here(), "--json").stdout)
    assert str(run_id) in [run["run_id"] for run in by]
    at = json.loads(cli("run", "list", "--device", "plant-line", "--json").stdout)
    assert str(run_id) in [run["run_id"] for run in at]
    older = json.loads(cli("run", "list", "--after", str(run_id), "--json").stdout)
    assert str(run_id) not in [run["run_id"] for run in older]

    def exited() -> Any:
        table = models.run_process
        with ledger.reading() as connection:
            row = connection.execute(sa.select(table).where(table.c.run_id == run_id)).first()
        return row if row and row.exited_at else None

    row: Any = wait_for(exited, "the exit on record")
    assert row.exit_status == 0
    assert row.claimed_at < row.started_at < row.exited_at
    with ledger.reading() as connection:
        table = models.artifact
        artifact = connection.execute(sa.select(table).where(table.c.run_id == run_id)).one()
    assert (artifact.name, artifact.media_type) == ("line.png", "image/png")
    assert Path(artifact.place).stat().st_size == artifact.bytes


async def test_what_is_told_twice_is_on_record_once(in_stack: Stack, ledger: Store) -> None:
    """A reconciler that is started again, or a second one, doubles neither line nor step."""
    from prefect import flow, get_run_logger, task

    @task
    def one() -> int:
        get_run_logger().info("in the task")
        return 1

    @flow(name="told-twice")
    def plain() -> int:
        get_run_logger().info("in the flow")
        return one()

    plain()

    def row() -> Any:
        run = models.job_run
        with ledger.reading() as connection:
            found = connection.execute(sa.select(run).where(run.c.job == "told-twice")).first()
        if not found or found.state != "completed" or found.log_lines < 5:
            return None  # two lines are its own, and three are Prefect's
        whole = detail(ledger, found.id)
        return found if whole and whole.steps else None

    before: Any = wait_for(row, "the run on record", 60)
    async with prefect_api() as api:
        run = await api.run(before.id)
        assert run is not None
        for _ in range(2):
            await ForeignRuns(ledger).tell(api, run)
            ship(ledger, in_stack)
    after: Any = row()
    found = detail(ledger, before.id)
    assert found is not None
    assert (after.log_lines, len(found.steps)) == (before.log_lines, 1)


async def test_a_run_that_was_begun_again_is_left_alone(
    in_stack: Stack, ledger: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's state is newer than the end on record: the run is not ended a second time."""
    from prefect import flow
    from prefect.states import Running

    from smartops import audited

    @flow(name="begun-again")
    @audited
    def done() -> None:
        return

    done()

    def row() -> Any:
        run = models.job_run
        with ledger.reading() as connection:
            found = connection.execute(sa.select(run).where(run.c.job == "begun-again")).first()
        return found if found and found.ended_at else None

    found: Any = wait_for(row, "the run's end on record")
    assert found.state == "completed"
    dead = DeadRuns(ledger, in_stack.settings.journal_dir)
    monkeypatch.setattr(dead, "_is_gone", lambda _process: True)
    async with prefect_api() as api:
        await api._client.set_flow_run_state(found.id, Running(), force=True)
        run = await api.run(found.id)
        assert run is not None
        await dead.put_prefect_right(api, [run])
        again = await api.run(found.id)
        assert again is not None
        assert again.state_type is StateType.RUNNING
        await api.end_run(found.id, StateType.COMPLETED, "")


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        (StateType.CANCELLING, StateType.CANCELLED, "it was being cancelled, and no process"),
        (StateType.RUNNING, StateType.CRASHED, "its process died"),
        (StateType.PENDING, StateType.CRASHED, "its worker died before the run began"),
    ],
    ids=str,
)
async def test_a_run_without_a_process_ends_as_it_was_meant_to(
    in_stack: Stack,
    ledger: Store,
    monkeypatch: pytest.MonkeyPatch,
    was: StateType,
    becomes: StateType,
    message: str,
) -> None:
    from prefect import flow

    @flow(name="never-recorded")
    def nothing() -> None:
        return

    dead = DeadRuns(ledger, in_stack.settings.journal_dir)
    claim = SimpleNamespace(home=dead._home)
    monkeypatch.setattr(dead, "_came_to_nothing", lambda _run, claimed: claimed is claim)
    monkeypatch.setattr(open_runs, "claims_of", lambda _store, ids: dict.fromkeys(ids, claim))
    async with prefect_api() as api:
        made = await api._client.create_flow_run(nothing, state=State(type=was))
        await dead.put_prefect_right(api, [made])
        ended = await api.run(made.id)
    assert ended is not None
    assert ended.state is not None
    assert (ended.state_type, ended.state_name) == (becomes, becomes.value.capitalize())
    assert str(ended.state.message).startswith(message)


@pytest.mark.parametrize(
    ("state", "ends_as"),
    [
        (StateType.CANCELLING, "cancelled"),
        (StateType.CANCELLED, "cancelled"),
        (StateType.RUNNING, "crashed"),
    ],
)
async def test_a_run_that_says_no_end_of_its_own(
    in_stack: Stack,
    ledger: Store,
    monkeypatch: pytest.MonkeyPatch,
    state: StateType,
    ends_as: str,
) -> None:
    """Its process has gone, in peace: one that was being cancelled is cancelled, also on record."""
    from prefect import flow

    @flow(name="says-no-end")
    def nothing() -> None:
        return

    dead = DeadRuns(ledger, in_stack.settings.journal_dir)
    async with prefect_api() as api:
        made = await api._client.create_flow_run(nothing, state=State(type=state))
        started = {"job": "j", "kind": "flow", "flow": "f", "params": {}}
        get_journal().append(Event("run.started", made.id, started))
        shipping.ship_all(ledger, get_settings().journal_dir)
        run = OpenRun(made.id, "j", "h", 1, uuid7(), dead._home, datetime.now(UTC), "own")
        monkeypatch.setattr(dead, "find", lambda: [(run, None)])
        await dead.judge(api)
        assert dead._untold[made.id][0] is PREFECT_STATES[ends_as]
        await dead._tell_of_the_dead(api)
        ended = await api.run(made.id)
    assert ended is not None
    assert ended.state_type is PREFECT_STATES[ends_as]


def test_a_function_inside_a_flow_does_not_end_the_flow(in_stack: Stack, ledger: Store) -> None:
    """An audited helper is a run of its own; the flow that calls it goes on."""
    from prefect import flow
    from prefect.context import FlowRunContext

    from smartops import audited

    @audited
    def helper() -> str:
        return "help"

    seen: list[UUID] = []

    @flow(name="calls-a-helper")
    @audited
    def caller() -> None:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        seen.append(context.flow_run.id)
        helper()
        ship(ledger, in_stack)
        found = detail(ledger, seen[0])
        assert found is not None
        assert found.run.state == "running"

    caller()
    ship(ledger, in_stack)
    found = detail(ledger, seen[0])
    assert found is not None
    assert found.run.state == "completed"
    run = models.job_run
    with ledger.reading() as connection:
        states = connection.execute(sa.select(run.c.state).where(run.c.job == "helper")).scalars()
        assert list(states) == ["completed"]
