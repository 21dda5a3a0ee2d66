"""Jobs through run_job in this process, with the stack's Prefect server and plant."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextvars import Context
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Scheduled

from reports.runs import Wanted, list_runs
from services.stack import Stack
from smartops.audit.store import Store
from tests.acceptance.conftest import Cli, PlantControl, Run, states
from tests.conftest import PREFECT_LEAVES_SOCKETS, wait_for

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]


async def test_values_flow_from_step_to_step(run: Run, plant_control: PlantControl) -> None:
    """Read, compute, write, and the plant saw exactly that."""
    before = len(plant_control.log("modbus.write"))
    detail = await run(
        """
name: values-flow
params: {extra: {type: integer, default: 5}}
steps:
  - {id: set_speed, kind: modbus.write, device: plant-line, tag: speed_setpoint, value: 100}
  - {id: speed, kind: modbus.read, needs: [set_speed], device: plant-line, tags: [speed_setpoint]}
  - id: faster
    kind: modbus.write
    device: plant-line
    tag: speed_setpoint
    value: "{{ steps.speed.value + params.extra }}"
""",
        extra=7,
    )
    assert detail.run.state == "completed"
    assert detail.run.params == {"extra": 7}
    assert [(c.requested, c.after, c.state) for c in detail.commands] == [
        (100, 100, "confirmed"),
        (107, 107, "confirmed"),
    ]
    writes = plant_control.log("modbus.write")[before:]
    assert [entry["values"] for entry in writes] == [[100], [107]]


async def test_a_failure_skips_what_needs_it_and_no_more(run: Run) -> None:
    """The independent branch runs to its end; the skipped step names its reason."""
    detail = await run(
        """
name: branches
steps:
  - {id: bad, kind: assert, checks: [{left: 1, right: 2, message: one is two}]}
  - {id: behind, kind: wait, needs: [bad], duration: 1ms}
  - {id: far_behind, kind: wait, needs: [behind], duration: 1ms}
  - {id: beside, kind: wait, duration: 1ms}
"""
    )
    assert states(detail) == {
        "bad": "failed",
        "beside": "completed",
        "behind": "skipped",
        "far_behind": "skipped",
    }
    assert detail.run.state == "failed"
    assert detail.run.message == "job branches failed at bad: one is two: 1 is not == 2"
    reasons = {step.id: step.error for step in detail.steps}
    assert reasons["far_behind"] == "it needs behind, which was skipped"


async def test_a_transient_error_is_tried_again(run: Run, plant_control: PlantControl) -> None:
    """As often as the job says, then the step fails with the last error."""
    plant_control.switch_on("orders-down")
    detail = await run(
        """
name: tries-again
steps:
  - id: orders
    kind: rest.request
    service: plant-orders
    path: /orders
    retry: {attempts: 3, delay: 10ms, jitter: 0}
"""
    )
    (step,) = detail.steps
    assert (step.state, step.attempts, step.error_class) == ("failed", 3, "ServiceUnavailable")


async def test_a_permanent_error_is_not(run: Run, plant_control: PlantControl) -> None:
    """Wrong credentials are wrong the second time too."""
    plant_control.switch_on("hmi-password-changed")
    detail = await run(
        """
name: tries-once
steps:
  - id: panel
    kind: browser.run
    profile: plant-hmi
    retry: {attempts: 3, delay: 10ms}
    actions:
      - {do: goto, path: /login}
      - {do: fill, target: {label: User name}, credential: username}
      - {do: fill, target: {label: Password}, credential: password}
      - {do: click, target: {role: button, name: Log in}}
      - {do: expect, target: {role: heading, name: Line overview}}
"""
    )
    (step,) = detail.steps
    assert (step.state, step.attempts, step.error_class) == ("failed", 1, "AuthenticationFailed")
    assert "Check user name and password of profile 'plant-hmi'" in (step.error or "")


async def test_an_unsafe_effect_is_never_repeated(run: Run, plant_control: PlantControl) -> None:
    """The service took it and the answer was lost: one post, and a person has to decide."""
    before = len(plant_control.log("shift-log.post"))
    plant_control.switch_on("orders-commit-then-drop")
    detail = await run(
        """
name: once-only
steps:
  - id: note
    kind: rest.request
    service: plant-orders
    method: POST
    path: /shift-log
    body: {line: line-1, text: once, good: 1, scrap: 0}
    retry: {attempts: 5, delay: 10ms, on: [TransientError, PermanentError]}
  - {id: behind, kind: wait, needs: [note], duration: 1ms}
"""
    )
    assert states(detail) == {"note": "unknown_outcome", "behind": "skipped"}
    assert detail.run.state == "needs_decision"
    assert detail.steps[0].attempts == 1
    assert len(plant_control.log("shift-log.post")) == before + 1


async def test_an_idempotency_key_makes_it_repeatable(
    run: Run, plant_control: PlantControl
) -> None:
    """The same key in each attempt: five attempts, one entry."""
    before = len(plant_control.log("shift-log.post"))
    plant_control.switch_on("orders-commit-then-drop")
    detail = await run(
        """
name: with-key
steps:
  - id: note
    kind: rest.request
    service: plant-orders
    method: POST
    path: /shift-log
    idempotency_key: true
    body: {line: line-1, text: keyed, good: 1, scrap: 0}
    retry: {attempts: 3, delay: 10ms}
"""
    )
    assert (detail.steps[0].state, detail.steps[0].attempts) == ("failed", 3)
    assert len(plant_control.log("shift-log.post")) == before + 1


@pytest.mark.parametrize(
    ("kind", "state", "error_class"),
    [("read", "failed", "StepTimeout"), ("write", "unknown_outcome", "UnknownOutcome")],
)
async def test_a_time_limit_ends_a_blocked_call(
    run: Run, plant_control: PlantControl, kind: str, state: str, error_class: str
) -> None:
    """The device says nothing for ever. A read has failed; of an unsafe write nobody knows."""
    steps = {
        "read": "{id: s, kind: modbus.read, device: plant-line, tags: [speed], timeout: 1s}",
        "write": "{id: s, kind: modbus.write, device: plant-line, tag: reset_counters, value: true,"
        " timeout: 1s}",
    }
    fault = {"read": "plc-silent", "write": "plc-acts-without-answer"}[kind]
    plant_control.switch_on(fault)
    detail = await run(f"name: limit-{kind}\nsteps: [{steps[kind]}]")
    (step,) = detail.steps
    assert (step.state, step.error_class) == (state, error_class)
    assert "not done after 1 s" in (step.error or "")
    assert (step.duration_s or 9) < 3  # the device's own time limit is 3 s: ours came first
    plant_control.all_well()
    again = await run(
        "name: after\nsteps: [{id: s, kind: modbus.read, device: plant-line, tags: [speed]}]"
    )
    assert again.run.state == "completed"


async def test_waiting_for_the_wire_is_no_effect(run: Run) -> None:
    """An unsafe step that reached its limit before it touched anything has simply failed."""
    from services import stack as stacks
    from smartops.locks import exclusive

    running = stacks.find()
    assert running is not None
    assert running.plant is not None
    held = asyncio.Event()

    async def hold(resource: str) -> None:
        async with exclusive(resource):
            held.set()
            await asyncio.sleep(3600)

    resource = f"modbus://127.0.0.1:{running.plant.modbus_port}"
    holder = asyncio.create_task(hold(resource), context=Context())
    await held.wait()
    detail = await run(
        "name: waits\nsteps: [{id: s, kind: modbus.write, device: plant-line, "
        "tag: reset_counters, value: true, timeout: 300ms}]"
    )
    holder.cancel()
    assert (detail.steps[0].state, detail.steps[0].error_class) == ("failed", "StepTimeout")
    assert detail.commands == ()


async def test_a_job_may_call_a_read_unsafe(run: Run, plant_control: PlantControl) -> None:
    """What the job declares reaches the driver: the lost answer of a GET is unknown then."""
    plant_control.switch_on("orders-commit-then-drop")
    detail = await run(
        """
name: strict
steps:
  - id: note
    kind: rest.request
    service: plant-orders
    method: POST
    path: /shift-log
    idempotency_key: true
    effect: unsafe
    body: {line: line-1, text: strict, good: 1, scrap: 0}
    retry: {attempts: 3, delay: 10ms}
"""
    )
    assert (detail.steps[0].state, detail.steps[0].attempts) == ("unknown_outcome", 1)


async def test_a_run_is_not_repeated_as_a_whole(
    cli: Cli, in_stack: Stack, plant_control: PlantControl, tmp_path: Path
) -> None:
    """Prefect's "retry" on a failed run would post a second time: it is refused."""
    (tmp_path / "job.yaml").write_text(
        """
name: not-again
steps:
  - id: note
    kind: rest.request
    service: plant-orders
    method: POST
    path: /shift-log
    body: {line: line-1, text: first, good: 1, scrap: 0}
  - {id: bad, kind: assert, needs: [note], checks: [{left: 1, right: 2}]}
"""
    )
    done = cli("job", "run", "job.yaml", "--wait", "--json")
    assert done.returncode == 1
    run_id = json.loads(done.stdout)["run_id"]

    def shown(processes: int) -> Any:
        found = json.loads(cli("run", "show", run_id, "--json").stdout)
        exited = [process for process in found["processes"] if process["exited_at"]]
        return found if len(exited) == processes else None

    first = wait_for(lambda: shown(1), "the end of its process on record")
    posts = len(plant_control.log("shift-log.post"))
    async with get_client() as client:
        await client.set_flow_run_state(UUID(run_id), Scheduled(), force=True)
        async with asyncio.timeout(60):
            while True:
                again = await client.read_flow_run(UUID(run_id))
                if again.run_count == 2 and again.state and again.state.is_final():
                    break
                await asyncio.sleep(0.2)
    assert again.state.is_failed()
    assert "has run before" in (again.state.message or "")
    assert len(plant_control.log("shift-log.post")) == posts
    after = wait_for(lambda: shown(2), "the end of the second process on record")
    assert after.pop("events") > first.pop("events"), "the worker's second claim is on record"
    assert after.pop("processes")[:-1] == first.pop("processes")
    assert after == first


async def test_a_flow_without_the_line_has_an_end_too(in_stack: Stack) -> None:
    """Steps are on record in any flow, and so is how the flow ended."""
    from prefect import flow

    from tasks.wait import wait

    @flow(name="plain-flow")
    async def plain(fail: bool) -> None:
        await wait(timedelta(milliseconds=1))
        if fail:
            raise ValueError("as asked")

    await plain(False)
    with pytest.raises(ValueError, match="as asked"):
        await plain(True)
    store = Store(in_stack.settings.store_url)

    def ended() -> bool:
        return [r.state for r in list_runs(store, Wanted(job="plain-flow"))] == [
            "failed",
            "completed",
        ]

    wait_for(ended, "both ends on record")
    store.close()


async def test_the_job_may_declare_an_effect(run: Run, plant_control: PlantControl) -> None:
    """The same blocked write, declared idempotent by the job, is an ordinary time limit."""
    plant_control.switch_on("plc-acts-without-answer")
    detail = await run(
        "name: declared\nsteps: [{id: s, kind: modbus.write, device: plant-line, "
        "tag: reset_counters, value: true, timeout: 300ms, effect: idempotent}]"
    )
    assert (detail.steps[0].effect, detail.steps[0].error_class) == ("idempotent", "StepTimeout")


WRONG = [
    ("modbus.read", "device: plant-line, tags: [nope]", "UnknownTag", "it has: alarm_high"),
    ("modbus.read", "device: nope, tags: [x]", "UnknownBlock", "no connection 'nope'"),
    ("modbus.read", "device: plant-hmi, tags: [x]", "UnknownBlock", "'plant-hmi'"),
    (
        "modbus.write",
        "device: plant-line, tag: speed_setpoint, value: 999",
        "WriteRefused",
        "above the limit",
    ),
    ("rest.request", "service: plant-orders, path: /nope", "ExpectationFailed", "404"),
    (
        "rest.request",
        "service: plant-orders, path: /orders, expect_status: [418]",
        "ExpectationFailed",
        "200",
    ),
    (
        "rest.request",
        'service: plant-orders, path: "{{ steps.s0.nothing }}"',
        "TemplateError",
        "nothing",
    ),
    ("modbus.read", 'device: "{{ params.p * 2 }}", tags: [x]', "TemplateError", "numbers only"),
]


@pytest.mark.parametrize(("kind", "fields", "error_class", "said"), WRONG)
async def test_errors_are_one_line_and_say_what_to_do(
    run: Run, kind: str, fields: str, error_class: str, said: str
) -> None:
    """What the user got wrong is told in one line on the step."""
    detail = await run(
        f"""
name: wrong
params: {{p: {{default: soon}}}}
steps:
  - {{id: s0, kind: wait, duration: 1ms}}
  - {{id: s1, kind: {kind}, {fields}}}
"""
    )
    failed = next(step for step in detail.steps if step.id == "s1")
    assert failed.error_class == error_class
    assert said in (failed.error or "")
    assert "\n" not in (failed.error or "")


async def test_a_wrong_parameter_fails_before_any_step(run: Run) -> None:
    """The run is on record as failed, and nothing was done."""
    detail = await run(
        "name: params\nparams: {n: {type: integer}}\nsteps: [{id: s, kind: wait, duration: 1ms}]"
    )
    assert detail.run.state == "failed"
    assert "needs a value for parameter 'n'" in detail.run.message
    assert detail.steps == ()


async def test_the_plants_secrets_are_nowhere(run: Run, in_stack: Stack) -> None:
    """After a browser login and authorised calls: not in the journal, the store or any log."""
    from smartops.plant.web import PASSWORD, TOKEN

    await run(
        "name: orders\nsteps: [{id: s, kind: rest.request, service: plant-orders, path: /orders}]"
    )
    await run(
        """
name: login
steps:
  - id: panel
    kind: browser.run
    profile: plant-hmi
    actions:
      - {do: goto, path: /login}
      - {do: fill, target: {label: Password}, credential: password}
"""
    )
    home = in_stack.settings.home
    files = [p for p in home.rglob("*") if p.is_file() and home / "prefect" not in p.parents]
    assert any(file.suffix == ".sqlite" for file in files)
    # In a process of its own: one that reads its own journal's files loses its locks on them.
    look = "import sys; from pathlib import Path; a, b, *files = sys.argv[1:]\n"
    look += "for f in files: c = Path(f).read_bytes(); assert not {a, b} & {x for x in (a, b) "
    look += "if x.encode() in c}, f"
    command = [sys.executable, "-c", look, PASSWORD, TOKEN, *map(str, files)]
    await asyncio.to_thread(subprocess.run, command, check=True)
