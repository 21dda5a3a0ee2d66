"""What people do with runs and jobs: answer, decide, cancel, take up, change, roll back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from blocks import ModbusDevice
from services.stack import Stack
from smartops.drivers.tags import Tag
from tests.acceptance.conftest import Cli, PlantControl
from tests.acceptance.test_language import fail, post
from tests.acceptance.test_reconciler import run_process
from tests.conftest import PREFECT_LEAVES_SOCKETS, wait_for

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give commands as others")
Start = Callable[..., str]
Shown = dict[str, Any]


@pytest.fixture
def start(quick: Cli, tmp_path: Path) -> Start:
    """Start a job by its text; return the run's id."""

    def call(text: str, *options: str) -> str:
        (tmp_path / "job.yaml").write_text(text)
        done = quick("job", "run", "job.yaml", "--json", *options)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["run_id"])

    return call


def show(quick: Cli, run_id: str) -> Shown:
    done = quick("run", "show", run_id, "--json")
    found: Shown = json.loads(done.stdout) if done.returncode == 0 else {"state": "", "steps": []}
    return found


def until(quick: Cli, run_id: str, *states: str, ended: bool = False) -> Shown:
    """Return the record of a run once it is in one of these states."""

    def there() -> Any:
        found = show(quick, run_id)
        over = not ended or found.get("ended_at")
        return found if found["state"] in states and over else None

    found: Any = wait_for(there, f"run {run_id} to be {states}", 120)
    return dict(found)


def states(found: Shown) -> dict[str, str]:
    return {step["id"]: step["state"] for step in found["steps"]}


def under_way(quick: Cli, run_id: str, step: str) -> None:
    wait_for(lambda: states(show(quick, run_id)).get(step) == "running", f"step {step}", 60)


def texts(plant: PlantControl, start: int = 0) -> list[str]:
    return [entry["text"] for entry in plant.log("shift-log.post")[start:]]


ASKS = """
name: asks-first
params: {n: {type: integer, default: 3}}
outputs: {speed: "{{ steps.ask.values.speed }}"}
steps:
  - {id: before, kind: wait, duration: 1ms}
  - id: ask
    kind: approval
    needs: [before]
    text: "Speed for {{ params.n }} pallets?"
    approvers: [ann, bob]
    requester_may_approve: false
    form: {speed: {type: integer, minimum: 60, maximum: 120, default: 90}}
"""


def save_approved_line(stack: Stack) -> None:
    """The plant's line, with a setpoint that somebody has to approve."""
    assert stack.plant is not None
    speed = Tag(
        name="speed_setpoint", address=0, kind="u16", allow_write=True, approval=True, max=250
    )
    line = ModbusDevice(host="127.0.0.1", port=stack.plant.modbus_port, tags=[speed])
    saved: Any = line.save("approved-line", overwrite=True)
    assert saved


@AS_ROOT
def test_an_approval(quick: Cli, start: Start, plant_control: PlantControl, stack: Stack) -> None:
    """The run waits without a process; who may not answer cannot; the answer is on record."""
    done = len(plant_control.log("shift-log.post"))
    save_approved_line(stack)
    write = "kind: modbus.write, device: approved-line, tag: speed_setpoint, value"
    writes = (
        f"  - {{id: early, {write}: 61, on_failure: continue}}\n"
        f"  - {{id: late, {write}: '{{{{ steps.ask.values.speed }}}}'}}\n"
    )
    run_id = start(ASKS + post("note", "at {{ steps.ask.values.speed }}") + writes)
    until(quick, run_id, "suspended")
    wait_for(lambda: run_process(stack.settings.home, UUID(run_id)) is None, "no process")
    waiting = json.loads(quick("approve", "list", "--json").stdout)
    assert [w["text"] for w in waiting if w["run_id"] == run_id] == [
        "Speed for 3 pallets?\n\nMay answer: ann, bob."
    ]
    assert "waits for an approval of step ask" in quick("run", "explain", run_id).stdout

    def answer(person: str, *arguments: str) -> tuple[int, str]:
        said = quick("approve", *arguments, env={"SUDO_USER": person})
        return said.returncode, said.stderr

    code, said = answer("eve", "grant", run_id)
    assert (code, "may not answer" in said) == (2, True)
    code, said = answer("ann", "grant", run_id, "-p", "speed=500")
    assert (code, "above 120" in said) == (2, True)
    code, said = answer("ann", "grant", run_id, "-p", "speed=75", "-m", "as ordered")
    assert code == 0, said
    found = until(quick, run_id, "completed", "failed", ended=True)
    assert found["state"] == "completed", found["message"]
    assert found["output"] == {"speed": 75}
    assert [(a["state"], a["person"], a["comment"]) for a in found["approvals"]] == [
        ("asked", "", ""),
        ("granted", "ann", "as ordered"),
    ]
    assert texts(plant_control, done) == ["at 75"]
    assert {step["attempts"] for step in found["steps"]} == {1}, "nothing was made twice"
    assert states(found)["early"] == "failed"
    [early] = [step for step in found["steps"] if step["id"] == "early"]
    assert "nobody has approved it" in early["error"]
    [command] = found["commands"]
    assert (command["requested"], command["approver"]) == (75, "ann")
    code, said = answer("ann", "deny", run_id)
    assert (code, "waits for no approval" in said) == (2, True)


@AS_ROOT
def test_the_requester_may_not_approve(quick: Cli, tmp_path: Path) -> None:
    """Two pairs of eyes, when the job says so; and a no fails the step."""
    (tmp_path / "job.yaml").write_text(ASKS)
    began = quick("job", "run", "job.yaml", "--json", env={"SUDO_USER": "ann"})
    run_id = json.loads(began.stdout)["run_id"]
    until(quick, run_id, "suspended")
    said = quick("approve", "grant", run_id, env={"SUDO_USER": "ann"})
    assert (said.returncode, "may not approve it too" in said.stderr) == (2, True)
    assert quick("approve", "deny", run_id, "-m", "no", env={"SUDO_USER": "bob"}).returncode == 0
    found = until(quick, run_id, "failed", ended=True)
    assert "ask: bob said no: no" in found["message"]


def test_nobody_answers(quick: Cli, start: Start) -> None:
    """When the time is over, the job says what counts as the answer."""
    run_id = start(
        "name: nobody\nsteps:\n"
        "  - {id: ask, kind: approval, text: Go on, within: 1s, if_nobody: grant}\n"
    )
    found = until(quick, run_id, "completed", "failed", ended=True)
    assert found["state"] == "completed", found["message"]
    assert [a["state"] for a in found["approvals"]] == ["asked", "expired"]


def test_decisions(quick: Cli, start: Start, plant_control: PlantControl) -> None:
    """An unsafe request without an answer: nothing is repeated before a person has looked."""
    plant_control.switch_on("orders-commit-then-drop")
    runs = {
        verdict: start(
            f"name: in-doubt-{verdict}\nsteps:\n"
            + post("note", f"doubt {verdict}", ", retry: {attempts: 3, delay: 1ms}")
            + post("after", f"after {verdict}", ", needs: [note]")
        )
        for verdict in ("done", "not-done", "retry")
    }
    for run_id in runs.values():
        found = until(quick, run_id, "needs_decision")
        assert found["ended_at"] is None
        assert "waits for a decision on step note" in quick("run", "explain", run_id).stdout
    plant_control.all_well()
    wrong = quick("run", "decide", runs["done"], "after", "done")
    assert (wrong.returncode, "is not in doubt" in wrong.stderr) == (2, True)
    for verdict, run_id in runs.items():
        told = quick("run", "decide", run_id, "note", verdict, "-m", "I looked")
        assert told.returncode == 0, told.stderr
    expected = {
        "done": ("completed", 1, 1),
        "not-done": ("failed", 1, 0),
        "retry": ("completed", 2, 1),
    }
    for verdict, run_id in runs.items():
        found = until(quick, run_id, "completed", "failed", ended=True)
        posted = texts(plant_control)
        counts = (posted.count(f"doubt {verdict}"), posted.count(f"after {verdict}"))
        assert (found["state"], *counts) == expected[verdict]
        assert [(d["step"], d["verdict"], d["comment"]) for d in found["decisions"]] == [
            ("note", verdict, "I looked")
        ]


def test_a_killed_run_is_taken_up(
    quick: Cli, start: Start, plant_control: PlantControl, stack: Stack
) -> None:
    """After kill -9: what was done is kept, what is in doubt is asked, the rest is made."""
    done = len(plant_control.log("shift-log.post"))
    run_id = start(
        "name: taken-up\nsteps:\n"
        + post("first", "first")
        + "  - {id: hold, kind: wait, needs: [first], duration: 20s, effect: unsafe}\n"
        + post("last", "last", ", needs: [hold]")
    )
    under_way(quick, run_id, "hold")
    process: Any = wait_for(lambda: run_process(stack.settings.home, UUID(run_id)), "its process")
    os.kill(process.pid, signal.SIGKILL)
    until(quick, run_id, "crashed", ended=True)
    refused = quick("run", "resume", run_id)
    assert (refused.returncode, "what step hold did is not known" in refused.stderr) == (2, True)
    assert "run resume" in quick("run", "decide", run_id, "hold", "done").stderr
    resumed = quick("run", "resume", run_id, "--wait", "--json")
    assert resumed.returncode == 0, resumed.stderr
    found = json.loads(resumed.stdout)
    assert found["resumes"] == run_id
    assert states(found) == {"last": "completed"}
    assert texts(plant_control, done) == ["first", "last"]


def test_resuming_with_another_value(
    quick: Cli, tmp_path: Path, plant_control: PlantControl
) -> None:
    """Only the failed step and what depends on it; from a step on, where one is named."""
    done = len(plant_control.log("shift-log.post"))
    (tmp_path / "job.yaml").write_text(
        "name: again\nparams: {limit: {type: integer, default: 1}}\nsteps:\n"
        + post("one", "one")
        + "  - {id: check, kind: assert, needs: [one], "
        "checks: [{left: '{{ params.limit }}', op: '>', right: 1}]}\n"
        + post("two", "two", ", needs: [check]")
    )
    first = json.loads(quick("job", "run", "job.yaml", "--wait", "--json").stdout)
    assert first["state"] == "failed"
    second = json.loads(quick("run", "resume", first["run_id"], "--wait", "--json").stdout)
    assert (second["state"], list(states(second))) == ("failed", ["check", "two"])
    resumed = quick("run", "resume", second["run_id"], "--set", "limit=2", "--wait", "--json")
    found = json.loads(resumed.stdout)
    assert (found["state"], list(states(found))) == ("completed", ["check", "two"])
    assert texts(plant_control, done) == ["one", "two"]
    nothing = quick("run", "resume", found["run_id"])
    assert (nothing.returncode, "has succeeded" in nothing.stderr) == (2, True)


def test_cancelling_takes_back_what_was_made(
    quick: Cli, start: Start, plant_control: PlantControl, stack: Stack
) -> None:
    """Under way or waiting for a person: undo, then the steps for the end, then cancelled.

    So it is with the button in Prefect's UI.
    """
    body = "{line: line-1, text: %s back, good: 1, scrap: 0}"
    what = "kind: rest.request, service: plant-orders, method: POST, path: /shift-log"
    steps = {
        "under-way": "  - {id: hold, kind: wait, needs: [one], duration: 50s}\n",
        "waits": '  - {id: hold, kind: approval, needs: [one], text: "Go on?"}\n',
        "in-the-ui": '  - {id: hold, kind: approval, needs: [one], text: "Go on?"}\n',
    }
    runs = {
        name: start(
            f"name: cancelled-{name}\nsteps:\n"
            + post("one", f"{name} one", f", undo: {{{what}, body: {body % name}}}")
            + step
            + post("end", f"{name} end", ", always: true")
        )
        for name, step in steps.items()
    }
    until(quick, runs["waits"], "suspended")
    until(quick, runs["in-the-ui"], "suspended")
    under_way(quick, runs["under-way"], "hold")
    for name, run_id in runs.items():
        if name == "in-the-ui":
            state = {"state": {"type": "CANCELLING"}}
            httpx.post(
                f"{stack.api_url}/flow_runs/{run_id}/set_state", json=state, timeout=60
            ).raise_for_status()
        else:
            assert quick("run", "cancel", run_id).returncode == 0
        found = until(quick, run_id, "cancelled", ended=True)
        done = [text for text in texts(plant_control) if text.startswith(name)]
        assert done == [f"{name} one", f"{name} back", f"{name} end"], found
        again = quick("run", "cancel", run_id)
        assert (again.returncode, "has ended" in again.stderr) == (2, True)


async def test_a_run_that_has_not_begun_is_cancelled(quick: Cli, in_stack: Stack) -> None:
    """The record does not know it yet, and Prefect does."""
    from prefect.client.orchestration import get_client
    from prefect.states import Scheduled

    later: Any = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(hours=1))
    async with get_client() as client:
        template = await client.read_deployment_by_name("run-job/run-job")
        job = {"name": "later", "steps": [{"id": "a", "kind": "wait", "duration": "1s"}]}
        made = await client.create_flow_run_from_deployment(
            template.id, state=later, parameters={"job": job}
        )
    done = await asyncio.to_thread(quick, "run", "cancel", str(made.id), "--json")
    assert json.loads(done.stdout)["said"] == "it had not begun, and will not"
    said = await asyncio.to_thread(quick, "run", "explain", str(made.id))
    assert "It did not begin: in Prefect it is cancelled" in said.stdout


def test_the_time_of_a_job_goes_on_after_a_question(quick: Cli, start: Start) -> None:
    """Waiting for people does not count; what the run took before it asked does."""
    run_id = start(
        "name: long-and-asks\ntimeout: 7s\nsteps:\n"
        "  - {id: before, kind: wait, duration: 4500ms}\n"
        "  - {id: ask, kind: approval, needs: [before], text: Go on}\n"
        "  - {id: after, kind: wait, needs: [ask], duration: 4500ms}\n"
    )
    until(quick, run_id, "suspended")
    assert quick("approve", "grant", run_id).returncode == 0
    found = until(quick, run_id, "failed", "completed", ended=True)
    assert "the run was not done after 7s" in found["message"], found


def test_an_approval_holds_for_its_values(
    quick: Cli, tmp_path: Path, plant_control: PlantControl
) -> None:
    """Taken up with another value, a person is asked again; what was made is not made again."""
    done = len(plant_control.log("shift-log.post"))
    (tmp_path / "job.yaml").write_text(
        "name: approved\nparams: {speed: {type: integer, default: 90}}\nsteps:\n"
        "  - {id: ask, kind: approval, text: 'Run at {{ params.speed }}?'}\n"
        + post("one", "approved one", ", needs: [ask]")
        + "  - {id: check, kind: assert, needs: [one], "
        "checks: [{left: '{{ params.speed }}', op: '<', right: 80}]}\n"
    )
    first = json.loads(quick("job", "run", "job.yaml", "--json").stdout)["run_id"]
    until(quick, first, "suspended")
    assert quick("approve", "grant", first).returncode == 0
    until(quick, first, "failed", ended=True)
    again = json.loads(quick("run", "resume", first, "--set", "speed=70", "--json").stdout)
    until(quick, again["run_id"], "suspended")
    shown = json.loads(quick("approve", "show", again["run_id"], "--json").stdout)
    assert shown["text"].startswith("Run at 70?")
    assert quick("approve", "grant", again["run_id"]).returncode == 0
    until(quick, again["run_id"], "completed", ended=True)
    assert texts(plant_control, done) == ["approved one"]


def test_a_job_as_a_step(quick: Cli, tmp_path: Path) -> None:
    """The child is a run of its own, linked to its parent, and gives its outputs."""
    child = (
        "name: child\nlocks: [line-5]\nparams: {n: {type: integer}}\n"
        "outputs: {twice: '{{ params.n * 2 }}'}\n"
        "steps:\n"
        "  - {id: a, kind: assert, checks: [{left: '{{ params.n }}', op: '<', right: 10}]}\n"
    )
    (tmp_path / "child.yaml").write_text(child)
    assert quick("job", "apply", "child.yaml").returncode == 0
    parent = (
        "name: parent\noutputs: {found: '{{ steps.each.items }}'}\nsteps:\n"
        "  - {id: each, kind: job, job: child, locks: [line-5], foreach: [1, 2], "
        "max_parallel: 1, params: {n: '{{ item.value }}'}}\n"
        "  - {id: bad, kind: job, job: child, params: {n: 99}, on_failure: continue}\n"
        "  - {id: none, kind: job, job: no-such, on_failure: continue}\n"
    )
    (tmp_path / "job.yaml").write_text(parent)
    done = quick("job", "run", "job.yaml", "--wait", "--json")
    found = json.loads(done.stdout)
    assert found["state"] == "completed", found["message"]
    assert [item["outputs"] for item in found["output"]["found"]] == [{"twice": 2}, {"twice": 4}]
    assert len(found["children"]) == 3
    assert until(quick, found["children"][0], "completed", "failed")["parent"] == found["run_id"]
    errors = {step["id"]: step["error_class"] for step in found["steps"]}
    assert (errors["bad"], errors["none"]) == ("ChildRunFailed", "BadInput")


async def test_a_child_starts_before_prefect_knows_its_step(in_stack: Stack) -> None:
    """A busy server learns of task runs late, and refuses runs that are linked to them."""
    from prefect import flow, task
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import FlowRun
    from prefect.context import TaskRunContext

    from smartops.audit import recording
    from smartops.vocabulary import Effect
    from tasks.job import _surely_start

    @task
    async def starts() -> FlowRun:
        context = TaskRunContext.get()
        info = recording.current_run()
        assert context is not None
        assert info is not None
        unknown = context.task_run.model_copy(update={"id": uuid4()})
        record = recording.StepRecord(
            info, step="a", kind="job", effect=Effect.READ, attempt=1, inputs={}
        )
        recording.current_step.set(record)
        TaskRunContext.__var__.set(context.model_copy(update={"task_run": unknown}))
        try:
            async with get_client() as client:
                return await _surely_start(client, "line-check", {}, 1)
        finally:
            TaskRunContext.__var__.set(context)

    @flow
    async def parent() -> FlowRun:
        return await starts()

    child = await parent()
    assert child.parent_task_run_id is None
    async with get_client() as client:
        await client.delete_flow_run(child.id)


async def test_a_child_ends_whose_start_was_broken_off(in_stack: Stack) -> None:
    """The cancel comes when Prefect has made the run, and before it has said so."""
    from prefect import flow, task
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import FlowRun

    from smartops.audit import recording
    from smartops.vocabulary import Effect
    from tasks.job import _started

    made: list[UUID] = []

    @task
    async def broken_off() -> FlowRun:
        info = recording.current_run()
        assert info is not None
        record = recording.StepRecord(
            info, step="a", kind="job", effect=Effect.READ, attempt=1, inputs={}
        )
        recording.current_step.set(record)
        async with get_client() as client:
            starting = asyncio.create_task(_started(client, "line-check", {}, 1))

            async def break_off(response: httpx.Response) -> None:
                path = response.request.url.path
                if path.endswith("/create_flow_run") and response.is_success:
                    await response.aread()
                    made.append(UUID(response.json()["id"]))
                    starting.cancel()

            client._client.event_hooks["response"].append(break_off)
            with pytest.raises(asyncio.CancelledError):
                await starting
            return await client.read_flow_run(made[0])

    @flow
    async def parent() -> FlowRun:
        return await broken_off()

    child = await parent()
    assert child.state is not None
    assert child.state.is_cancelling() or child.state.is_cancelled()


def test_a_child_is_cancelled_at_the_time_limit(quick: Cli, tmp_path: Path) -> None:
    """Its run does not go on alone, and the step's outcome is in doubt."""
    (tmp_path / "child.yaml").write_text(
        "name: slow-child\nsteps: [{id: a, kind: wait, duration: 50s}]\n"
    )
    assert quick("job", "apply", "child.yaml").returncode == 0
    (tmp_path / "job.yaml").write_text(
        "name: short-parent\nsteps: [{id: a, kind: job, job: slow-child, timeout: 8s, "
        "effect: idempotent, retry: {attempts: 3, delay: 1s, on: [PrefectUnavailable]}}]\n"
    )
    found = json.loads(quick("job", "run", "job.yaml", "--wait", "--json").stdout)
    step = found["steps"][0]
    assert (found["state"], step["error_class"]) == ("failed", "StepTimeout"), step["error"]
    assert until(quick, found["children"][0], "cancelled", ended=True)
    assert quick("job", "delete", "slow-child").returncode == 0


async def test_the_form_of_a_job_has_its_parameters(in_stack: Stack) -> None:
    """The run form in Prefect's UI has a field for each, with its sentence, limits and default."""
    from prefect.client.orchestration import get_client

    from services import deployed_jobs
    from smartops.jobs.spec import JobSpec

    param = {"type": "integer", "default": 3, "minimum": 1, "description": "How many."}
    step = {"id": "a", "kind": "wait", "duration": "1s"}
    spec = JobSpec.model_validate({"name": "formed", "params": {"n": param}, "steps": [step]})
    async with get_client() as client:
        made = await deployed_jobs.deploy(client, spec)
        deployment = await client.read_deployment(made)
        await client.delete_deployment(made)
    schema: Any = deployment.parameter_openapi_schema
    assert schema["properties"]["params"]["properties"]["n"] == {
        "title": "n",
        "type": "integer",
        "description": "How many.",
        "default": 3,
        "minimum": 1.0,
    }


def test_changing_jobs(quick: Cli, tmp_path: Path) -> None:
    """Applying is idempotent, prunes, conflicts with others' changes, and can be rolled back."""
    folder = tmp_path / "jobs"
    folder.mkdir()

    def write(name: str, seconds: int) -> None:
        text = f"name: {name}\nsteps: [{{id: a, kind: wait, duration: {seconds}s}}]\n"
        (folder / f"{name}.yaml").write_text(text)

    def apply(*options: str) -> dict[str, str]:
        done = quick("job", "apply", "jobs", "--json", *options)
        assert done.returncode == 0, done.stderr
        return {change["job"]: change["action"] for change in json.loads(done.stdout)}

    write("made-one", 1)
    write("made-two", 1)
    assert apply("--dry-run") == {"made-one": "created", "made-two": "created"}
    assert apply() == {"made-one": "created", "made-two": "created"}
    assert apply() == {"made-one": "unchanged", "made-two": "unchanged"}
    first = json.loads(quick("job", "show", "made-one", "--json").stdout)["revision"]
    write("made-one", 2)
    (folder / "made-two.yaml").unlink()
    assert "-  duration: 1s\n+  duration: 2s" in quick("job", "diff", "jobs/made-one.yaml").stdout
    pruned = apply("--prune")
    assert (pruned["made-one"], pruned["made-two"]) == ("updated", "deleted")
    listed = {job["name"] for job in json.loads(quick("job", "list", "--json").stdout)}
    assert "made-one" in listed
    assert "made-two" not in listed

    assert quick("job", "export", "made-one", "-o", "mine.yaml").returncode == 0
    write("made-one", 3)
    apply()
    (tmp_path / "mine.yaml").write_text((tmp_path / "mine.yaml").read_text().replace("2s", "4s"))
    conflict = quick("job", "apply", "mine.yaml")
    assert (conflict.returncode, "the file began from" in conflict.stderr) == (2, True)
    assert quick("job", "apply", "mine.yaml", "--force").returncode == 0

    rolled = json.loads(quick("job", "rollback", "made-one", first[:12], "--json").stdout)
    assert (rolled["action"], rolled["revision"]) == ("rolled-back", first)
    shown = json.loads(quick("job", "show", "made-one", "--json").stdout)
    assert shown["job"]["steps"] == [{"id": "a", "kind": "wait", "duration": "1s"}]
    assert shown["revision"] == first
    assert [c["action"] for c in shown["changes"]][::-1] == [
        "created",
        "updated",
        "updated",
        "updated",
        "rolled-back",
    ]
    assert quick("job", "pause", "made-one").returncode == 0
    assert json.loads(quick("job", "show", "made-one", "--json").stdout)["paused"] is True
    assert quick("job", "resume", "made-one").returncode == 0
    assert quick("job", "delete", "made-one").returncode == 0
    gone = quick("job", "show", "made-one")
    assert (gone.returncode, "no job 'made-one' is deployed" in gone.stderr) == (2, True)


def test_a_failed_run_explains_itself(quick: Cli, start: Start) -> None:
    """Why it failed, and how to go on."""
    run_id = start("name: explained\nsteps:\n" + fail())
    until(quick, run_id, "failed", ended=True)
    said = quick("run", "explain", run_id).stdout
    assert "It ended as failed" in said
    assert "1 is not == 2" in said
    assert f"smartops run resume {run_id[:8]}" in said


def test_a_rehearsal(quick: Cli, tmp_path: Path, plant_control: PlantControl) -> None:
    """The simulated plant only, whatever a connection says; it tells what it would have done."""
    from pydantic import HttpUrl

    from blocks import HttpService

    plant_orders: Any = HttpService.load("plant-orders")
    far = HttpService(base_url=HttpUrl("http://192.0.2.7/"), token=plant_orders.token)
    far.save("far-orders", overwrite=True)
    (tmp_path / "job.yaml").write_text(
        "name: rehearsed\nsteps:\n"
        "  - {id: speed, kind: modbus.write, device: plant-line, tag: speed_setpoint, value: 77}\n"
        '  - {id: ask, kind: approval, text: "Go on?", form: {n: {type: integer, minimum: 3}}}\n'
        "  - {id: own, kind: python.call, function: 'os:getcwd'}\n"
        + post("note", "rehearsed {{ steps.ask.values.n }}").replace("plant-orders", "far-orders")
    )
    refused = quick("job", "run", "job.yaml", "--rehearse", "--wait", "--json")
    found = json.loads(refused.stdout)
    assert (found["state"], found["rehearsal"]["real_run"]) == ("failed", None)
    assert states(found) == {
        "speed": "completed",
        "ask": "completed",
        "own": "skipped",
        "note": "failed",
    }
    assert "a rehearsal may reach nothing but this machine" in found["message"]
    plant_orders.save("far-orders-rehearsal", overwrite=True)
    again = json.loads(quick("job", "run", "job.yaml", "--rehearse", "--wait", "--json").stdout)
    assert again["state"] == "completed", again["message"]
    assert again["rehearsal"]["effects"][0] == "plant-line: speed_setpoint = 77 1/min"
    assert "rehearsed 3" in again["rehearsal"]["effects"][1]
    assert "rehearsed 3" in texts(plant_control)
