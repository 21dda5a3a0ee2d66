"""What a worker does with runs that are due: overlap, missed slots, backfills, in a real system."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prefect.client.orchestration import PrefectClient, get_client
from prefect.states import Running, Scheduled

from services import deployed_jobs, gate
from services.prefect_api import prefect_api
from services.slots import NO_RUN_MADE, Beat, Slot, Slots
from services.stack import Stack
from smartops.audit import models
from smartops.audit.store import Store
from smartops.jobs.spec import JobSpec
from tasks.run_context import SLOT
from tests.acceptance.conftest import Cli
from tests.conftest import PREFECT_LEAVES_SOCKETS, wait_for

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]


@pytest.fixture
async def client(in_stack: Stack) -> AsyncIterator[PrefectClient]:
    """Prefect's API."""
    async with get_client() as opened:
        yield opened


def job(**fields: Any) -> JobSpec:
    step = {"id": "a", "kind": "wait", "duration": "1s"}
    return JobSpec.model_validate({"name": "policies", "steps": [step], **fields})


@pytest.mark.parametrize(
    ("overlap", "state", "other"),
    [
        ("queue_one", "AwaitingConcurrencySlot", "Running"),
        ("skip", "Skipped", "Running"),
        ("cancel_running", "AwaitingConcurrencySlot", "Cancelling"),
        ("allow", "Scheduled", "Running"),
    ],
)
async def test_overlap(client: PrefectClient, overlap: str, state: str, other: str) -> None:
    """What becomes of a run while another is under way; Prefect is told why, for all to see."""
    deployment = await deployed_jobs.deploy(client, job(overlap=overlap))
    later = datetime.now(UTC) + timedelta(hours=1)
    first, second, by_hand = [
        await client.create_flow_run_from_deployment(
            deployment, state=Scheduled(scheduled_time=later)
        )
        for _ in range(3)
    ]
    await client.set_flow_run_state(first.id, Running(), force=True)
    assert await gate.ask(client, by_hand)
    early = second.model_copy(update={"auto_scheduled": True})
    assert await gate.ask(client, early) is (overlap == "allow")
    early_state = (await client.read_flow_run(second.id)).state
    assert early_state is not None
    assert early_state.name == "Scheduled", "it is not due yet: nothing is decided"
    scheduled = early.model_copy(update={"expected_start_time": datetime.now(UTC)})
    assert await gate.ask(client, scheduled) is (overlap == "allow")
    states = [(await client.read_flow_run(run.id)).state for run in (first, second)]
    assert [found.name for found in states if found] == [other, state]
    said = states[1].message if states[1] else ""
    assert (f"run {str(first.id)[:8]} is under way" in (said or "")) is (overlap != "allow")
    await client.delete_deployment(deployment)


@pytest.mark.parametrize(
    ("policy", "expected"), [("skip", []), ("last", [10]), ("all", [50, 30, 10])]
)
async def test_a_slot_without_a_run_gets_one(
    client: PrefectClient, policy: str, expected: list[int]
) -> None:
    """Prefect was away: the last slot runs late, or all that are recent, as the job says; once."""
    yearly = [{"cron": "0 0 1 1 *"}]
    spec = job(name=f"missed-{policy}", missed={"run": policy, "within": "1h"}, schedules=yearly)
    deployment = await client.read_deployment(await deployed_jobs.deploy(client, spec))
    now = datetime.now(UTC)
    beat = Beat(deployment.schedules[0], frozenset())

    def slot(minutes_ago: int) -> Slot:
        at = now - timedelta(minutes=minutes_ago)
        return Slot(deployment.id, spec.name, at, "", beat.key, "missed", NO_RUN_MADE, None)

    slots = [slot(minutes) for minutes in (10, 30, 50, 180)]
    async with prefect_api() as api:
        for _ in range(2):
            await Slots._catch_up(api, deployment, beat, slots, [], now)
        runs = await api.due_runs(deployment.id, now - timedelta(days=1), now + timedelta(days=1))
        ran = slot(20)
        later = [run.model_copy(update={"labels": {SLOT: ran.due_at.isoformat()}}) for run in runs]
        if later:
            await Slots._catch_up(api, deployment, beat, slots[1:], later[:1], now)
        after = await api.due_runs(deployment.id, now - timedelta(days=1), now + timedelta(days=1))
    due = [now - timedelta(minutes=minutes) for minutes in expected]
    assert sorted(gate.due_at(run) for run in runs) == due
    assert len(after) == len(runs), "a slot before one that has run stays missed"
    await client.delete_deployment(deployment.id)


def test_a_backfill(quick: Cli, tmp_path: Path) -> None:
    """A run for each slot of the past, so many at once, and none twice."""
    (tmp_path / "job.yaml").write_text(
        "name: filled-up\nschedules: [{cron: '0 0 * * *'}]\noverlap: skip\n"
        "outputs: {due: '{{ run.due_at }}'}\nsteps: [{id: a, kind: wait, duration: 1ms}]\n"
    )
    assert quick("job", "apply", "job.yaml").returncode == 0
    shown = json.loads(quick("schedule", "preview", "filled-up", "--count", "3", "--json").stdout)
    assert len(shown) == 3
    dry = json.loads(
        quick("schedule", "backfill", "filled-up", "--from", "3d", "--dry-run", "--json").stdout
    )
    assert [slot["action"] for slot in dry] == ["run"] * 3
    options = ("--from", "3d", "--parallel", "2", "--json")
    made = json.loads(quick("schedule", "backfill", "filled-up", *options).stdout)
    runs = {slot["run_id"] for slot in made}
    again = json.loads(quick("schedule", "backfill", "filled-up", *options).stdout)
    assert {slot["run_id"] for slot in again} - {None} <= runs

    def ended() -> Any:
        listed = json.loads(quick("run", "list", "--job", "filled-up", "--json").stdout)
        return listed if len([r for r in listed if r["state"] == "completed"]) == 3 else None

    listed: Any = wait_for(ended, "three runs", 120)
    assert {run["run_id"] for run in listed} == runs
    assert {run["output"]["due"] for run in listed} == {slot["due_at"] for slot in made}
    assert quick("job", "delete", "filled-up").returncode == 0


def test_a_schedule_fires(quick: Cli, tmp_path: Path, in_stack: Stack) -> None:
    """Applied, and it starts by itself, again and again; each slot is on record with its run."""
    (tmp_path / "job.yaml").write_text(
        "name: ticking\nschedules: [{every: 3s, name: tick, params: {n: 7}}]\noverlap: allow\n"
        "params: {n: {type: integer, default: 1}}\noutputs: {n: '{{ params.n }}'}\n"
        "steps: [{id: a, kind: wait, duration: 1ms}]\n"
    )
    assert quick("job", "apply", "job.yaml").returncode == 0

    def runs() -> Any:
        listed = json.loads(quick("run", "list", "--job", "ticking", "--json").stdout)
        return listed if len([r for r in listed if r["state"] == "completed"]) >= 2 else None

    listed: Any = wait_for(runs, "two runs of the schedule", 90)
    assert {run["requested_by"] for run in listed} == {"schedule"}
    assert {run["output"]["n"] for run in listed if run["state"] == "completed"} == {7}
    store = Store(in_stack.settings.store_url)
    query = sa.select(models.slot.c.outcome).where(models.slot.c.job == "ticking")

    def told() -> bool:
        with store.reading() as connection:
            return list(connection.execute(query).scalars()).count("run") >= 2

    wait_for(told, "the slots on record", 90)
    store.close()
    assert quick("job", "delete", "ticking").returncode == 0
