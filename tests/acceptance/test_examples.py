"""The jobs that ship: each runs against the plant, and both ways to deploy them give the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prefect.client.orchestration import get_client

from services import deployed_jobs
from services.prefect_schedules import schedules_of
from services.stack import Stack
from smartops.jobs import loader
from smartops.jobs.revision import revision_of
from smartops.jobs.spec import JobSpec
from smartops.plant.mosquitto import find_executable
from tests.acceptance.conftest import Cli, PlantControl, Run, states
from tests.conftest import PREFECT_LEAVES_SOCKETS, ROOT, needs, wait_for

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
FILES = sorted((ROOT / "deployments" / "jobs").glob("*.yaml"))
JOBS: dict[str, JobSpec] = {file.stem: loader.load(file) for file in FILES}
ALONE = sorted(set(JOBS) - {"change-speed", "morning-round", "line-check", "panel-picture"})


def test_there_are_enough_and_each_is_one_screen() -> None:
    """At least eight, each on a screen, named as its file, with a sentence."""
    assert len(FILES) >= 8
    for file in FILES:
        assert len(file.read_text().splitlines()) <= 60, file
        assert JOBS[file.stem].name == file.stem
        assert JOBS[file.stem].description.endswith(".")


@pytest.mark.parametrize("name", ALONE)
async def test_an_example_runs(run: Run, name: str) -> None:
    """As it ships, with its defaults, against the simulated plant."""
    needs(name != "weigh-sample" or find_executable() is not None, "Mosquitto")
    detail = await run((ROOT / "deployments" / "jobs" / f"{name}.yaml").read_text())
    assert detail.run.state == "completed", detail.run.message
    assert set(states(detail).values()) <= {"completed", "skipped"}


async def test_ramp_up_goes_back(run: Run, plant_control: PlantControl) -> None:
    """Each stage is taken back when one does not hold."""
    before = len(plant_control.log("modbus.write"))
    text = (ROOT / "deployments" / "jobs" / "ramp-up.yaml").read_text()
    detail = await run(text.replace("right: 100", "right: 99"))
    assert detail.run.state == "failed"
    assert [state for name, state in states(detail).items() if name.startswith("undo_stage[")] == [
        "completed"
    ] * 3
    assert len(plant_control.log("modbus.write")) > before


def test_the_round_runs_the_others(quick: Cli) -> None:
    """Its steps are runs of other jobs; with a browser among them, it takes a while."""
    done = quick("job", "run", "morning-round", "--wait", "--json")
    found = json.loads(done.stdout)
    assert found["state"] == "completed", found["message"]
    assert len(found["children"]) == 3
    assert found["steps"][-1]["id"] == "note"


def test_the_speed_changes_after_an_approval(quick: Cli) -> None:
    """Asked, granted with another speed, written and seen."""
    began = quick("job", "run", "change-speed", "-p", "speed=95", "--json")
    run_id = json.loads(began.stdout)["run_id"]

    def waits() -> Any:
        waiting = json.loads(quick("approve", "list", "--json").stdout)
        return [w for w in waiting if w["run_id"] == run_id]

    questions: Any = wait_for(waits, "the question", 60)
    assert "to 95 bottles a minute?" in questions[0]["text"]
    assert quick("approve", "grant", run_id, "-p", "speed=90").returncode == 0

    def ended() -> Any:
        shown = json.loads(quick("run", "show", run_id, "--json").stdout)
        return shown if shown["ended_at"] else None

    found: Any = wait_for(ended, "its end", 60)
    assert found["state"] == "completed", found["message"]
    assert [command["requested"] for command in found["commands"]] == [90]


async def test_prefect_deploys_what_the_files_say(in_stack: Stack) -> None:
    """`prefect deploy --all` and `smartops job apply` make the same of a file."""
    async with get_client() as client:
        deployed = await deployed_jobs.deployed_jobs(client)
        for name, spec in JOBS.items():
            assert deployed[name].revision == revision_of(spec), name
            found = await client.read_deployment(deployed[name].id)
            assert found.description == spec.description
            wanted = {s.slug: s.schedule for s in schedules_of(spec)}
            assert {s.slug: s.schedule for s in found.schedules} == wanted, name
