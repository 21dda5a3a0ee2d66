"""What a job can say, each option with a test that fails when it has no effect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from datetime import timedelta
from pathlib import Path

import pytest

from services.stack import Stack
from smartops.locks import exclusive
from smartops.settings import get_settings
from tests.acceptance.conftest import PlantControl, Run, states
from tests.conftest import PREFECT_LEAVES_SOCKETS

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
Posted = Callable[[], list[str]]


def post(step: str, text: str, more: str = "") -> str:
    """Return a step that leaves a trace in the plant."""
    body = f"{{line: line-1, text: '{text}', good: 1, scrap: 0}}"
    what = "kind: rest.request, service: plant-orders, method: POST, path: /shift-log"
    return f"  - {{id: {step}, {what}, body: {body}{more}}}\n"


def fail(step: str = "bad", more: str = "") -> str:
    return f"  - {{id: {step}, kind: assert, checks: [{{left: 1, right: 2}}]{more}}}\n"


@pytest.fixture
def posted(plant_control: PlantControl) -> Posted:
    """What was posted to the plant since the test began, in order."""
    before = len(plant_control.log("shift-log.post"))

    def texts() -> list[str]:
        return [entry["text"] for entry in plant_control.log("shift-log.post")[before:]]

    return texts


async def test_when(run: Run, posted: Posted) -> None:
    """A step whose condition is not true is skipped; what only needs it by name goes on."""
    detail = await run(
        "name: when-it-is\nparams: {n: {type: integer}}\nsteps:\n"
        + post("many", "many", ", when: params.n > 5")
        + post("few", "few", ", when: '{{ params.n <= 5 }}'")
        + post("after", "after", ", needs: [many, few]")
        + "  - {id: use, kind: assert, checks: [{left: '{{ steps.many.status }}', right: 201}]}\n",
        n=2,
    )
    assert detail.run.state == "completed", detail.run.message
    assert posted() == ["few", "after"]
    assert states(detail) == {
        "many": "skipped",
        "few": "completed",
        "after": "completed",
        "use": "skipped",
    }
    wrong = await run("name: when-wrong\nsteps:\n" + post("a", "a", ", when: 1 + 1"))
    assert wrong.run.state == "failed"
    assert "true or false is wanted" in (wrong.steps[0].error or "")


async def test_foreach_keeps_the_order_and_the_limit(run: Run, posted: Posted) -> None:
    """One step for each value; outputs in the list's order; no more at once than allowed."""
    detail = await run(
        """
name: each-of-them
outputs: {waited: "{{ steps.each.items }}", n: "{{ steps.each.count }}"}
steps:
  - {id: each, kind: wait, foreach: [2.5, 0.1, 0.3], max_parallel: 2, duration: "{{ item.value }}s"}
  - {id: all, kind: wait, foreach: "{{ steps.each.items }}", when: item.number != 1, duration: 1ms}
"""
    )
    assert detail.run.state == "completed", detail.run.message
    assert detail.run.output == {
        "waited": [{"waited_s": 2.5}, {"waited_s": 0.1}, {"waited_s": 0.3}],
        "n": 3,
    }
    found = {step.id: step for step in detail.steps}
    assert found["each[2]"].started_at >= found["each[1]"].ended_at
    assert found["each[1]"].started_at < found["each[0]"].ended_at
    assert states(detail)["all[1]"] == "skipped"
    assert states(detail)["all[2]"] == "completed"
    bad = await run(
        "name: each-none\nsteps:\n  - {id: a, kind: wait, duration: 1s, foreach: '{{ 5 }}'}"
    )
    assert "a list is wanted" in bad.run.message


async def test_a_failure_in_a_list_stops_it(run: Run, posted: Posted) -> None:
    """No new value is begun after a failure; with continue, all are."""
    text = "name: list-{}\nsteps:\n" + post(
        "note", "{{{{ item.value }}}}", ", foreach: [a, b, '', d], max_parallel: 1{}"
    )
    check = (
        "  - {{id: check, kind: assert, foreach: [1, 2, 1], max_parallel: 1{}, "
        "checks: [{{left: '{{{{ item.value }}}}', right: 1}}]}}\n"
    )
    stopped = await run("name: list-stops\nsteps:\n" + check.format(""))
    assert states(stopped) == {"check[0]": "completed", "check[1]": "failed"}
    assert stopped.run.state == "failed"
    on = await run("name: list-goes-on\nsteps:\n" + check.format(", on_failure: continue"))
    assert states(on) == {"check[0]": "completed", "check[1]": "failed", "check[2]": "completed"}
    assert on.run.state == "completed"
    assert text


async def test_on_failure_continue(run: Run, posted: Posted) -> None:
    """A failure that is allowed: the run succeeds, and only what uses the output is skipped."""
    detail = await run(
        "name: goes-on\nsteps:\n"
        + fail("look", ", on_failure: continue")
        + post("after", "after", ", needs: [look]")
        + "  - {id: use, kind: assert, checks: [{left: '{{ steps.look.held }}', right: ''}]}\n"
    )
    assert detail.run.state == "completed", detail.run.message
    assert states(detail) == {"look": "failed", "after": "completed", "use": "skipped"}
    assert posted() == ["after"]


async def test_undo_in_reverse_order_and_always_at_the_end(run: Run, posted: Posted) -> None:
    """After a failure: what was made is taken back, the last first; then the steps for the end."""

    def undo(text: str) -> str:
        body = f"{{line: line-1, text: '{text}', good: 1, scrap: 0}}"
        what = "kind: rest.request, service: plant-orders, method: POST, path: /shift-log"
        return f", undo: {{{what}, body: {body}}}"

    steps = (
        post("one", "one", undo("not {{ steps.one.body.text }}"))
        + post("two", "{{ item.value }}", ", needs: [one], max_parallel: 1, foreach: [a, b]")
        .rstrip()
        .removesuffix("}")
        + undo("not {{ item.value }}")
        + "}\n"
        + post("end", "end, failed {{ run.failed }}", ", always: true")
    )
    detail = await run("name: taken-back\nsteps:\n" + steps + fail(more=", needs: [two]"))
    assert detail.run.state == "failed"
    assert posted() == ["one", "a", "b", "not b", "not a", "not one", "end, failed True"]
    assert states(detail)["undo_two[1]"] == "completed"
    good = await run("name: not-taken-back\nsteps:\n" + steps)
    assert good.run.state == "completed"
    assert posted()[7:] == ["one", "a", "b", "end, failed False"]


async def test_an_always_step_that_fails_fails_the_run(run: Run) -> None:
    """What is made at the end counts as well."""
    detail = await run(
        "name: bad-end\nsteps:\n  - {id: a, kind: wait, duration: 1ms}\n"
        + fail("e", ", always: true")
    )
    assert detail.run.state == "failed"
    assert "failed at e" in detail.run.message


async def test_the_time_for_cleaning_up(run: Run) -> None:
    """Steps for the end are broken off when the time is over."""
    began = time.monotonic()
    detail = await run(
        "name: slow-end\ncleanup: 3s\nsteps:\n"
        + fail()
        + "  - {id: slow, kind: wait, always: true, duration: 30s}\n"
    )
    assert time.monotonic() - began < 20
    assert states(detail) == {"bad": "failed", "slow": "cancelled"}


async def test_the_time_of_a_job(run: Run, posted: Posted) -> None:
    """At its time limit the steps under way are ended, and what can be undone is."""
    detail = await run(
        "name: too-long\ntimeout: 1s\nsteps:\n"
        + post("end", "closed", ", always: true")
        + "  - {id: slow, kind: wait, duration: 30s}\n"
    )
    assert detail.run.state == "failed"
    assert "not done after 1s" in detail.run.message
    assert states(detail)["slow"] == "cancelled"
    assert posted() == ["closed"]


async def test_variables_by_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each environment has its values; one without falls back to default."""
    text = """
name: by-environment
vars: {limit: {default: 1, plant-b: 2}}
outputs: {limit: "{{ vars.limit }}", where: "{{ run.environment }}"}
steps: [{id: a, kind: wait, duration: 1ms}]
"""
    assert (await run(text)).run.output == {"limit": 1, "where": "default"}
    monkeypatch.setenv("SMARTOPS_ENVIRONMENT", "plant-b")
    get_settings.cache_clear()
    assert (await run(text)).run.output == {"limit": 2, "where": "plant-b"}


async def test_waiting_for_a_tag_and_for_a_page(run: Run, plant_control: PlantControl) -> None:
    """It goes on when the condition holds, and not before its time is over."""
    detail = await run(
        """
name: wait-until
steps:
  - {id: speed, kind: modbus.write, device: plant-line, tag: speed_setpoint, value: 91}
  - {id: tag, kind: wait, needs: [speed], every: 50ms,
     tag: {device: plant-line, tag: speed_setpoint, value: 91}}
  - {id: url, kind: wait, url: {service: plant-orders, path: /orders, contains: line-1}}
  - {id: gone, kind: wait, url: {service: plant-orders, path: /nowhere, status: 404}}
  - {id: other, kind: wait, timeout: 1s, every: 100ms, on_failure: continue,
     url: {service: plant-orders, path: /orders, contains: line-99}}
  - {id: never, kind: wait, timeout: 1s, every: 100ms, needs: [tag], on_failure: continue,
     tag: {device: plant-line, tag: speed_setpoint, op: ">", value: 9999}}
  - {id: cell, kind: wait, needs: [speed],
     tag: {device: plant-cell, tag: speed_setpoint, value: 91}}
"""
    )
    assert detail.run.state == "completed", detail.run.message
    found = {step.id: step for step in detail.steps}
    for of_either in ("tag", "cell"):
        assert found[of_either].output["found"].startswith("speed_setpoint is 91")
    assert found["never"].error_class == found["other"].error_class == "StepTimeout"
    assert found["gone"].output["found"] == "/nowhere answered 404"


async def test_locks_of_jobs_and_steps(run: Run) -> None:
    """Steps that name the same lock take turns; a job that names one has it for itself."""
    spans = (
        await run(
            "name: lock-steps\nparams: {l: {default: line-7}}\nsteps:\n"
            "  - {id: a, kind: wait, duration: 300ms, locks: ['{{ params.l }}']}\n"
            "  - {id: b, kind: wait, duration: 300ms, locks: [line-7]}\n"
        )
    ).steps
    first, second = sorted(spans, key=lambda step: step.ended_at or step.started_at)
    assert first.ended_at is not None
    assert second.ended_at is not None
    assert second.ended_at - first.ended_at >= timedelta(milliseconds=290)

    holder = asyncio.create_task(hold("line-8", 1.5), context=Context())
    await asyncio.sleep(0)
    detail = await run(
        "name: lock-job\nlocks: [line-8]\nsteps: "
        "[{id: a, kind: wait, duration: 1ms, locks: [line-8]}]"
    )
    assert holder.done(), "the run has waited for its lock"
    assert detail.run.state == "completed", "what the job holds its steps need not wait for"


async def hold(name: str, seconds: float) -> None:
    async with exclusive(name):
        await asyncio.sleep(seconds)


FUNCTIONS = """
import os, subprocess, sys, time
from pydantic import BaseModel
from smartops.errors import DeviceBusy

class Batch(BaseModel):
    line: str
    size: int

def double(batch: Batch, times: int = 2) -> Batch:
    print("doubling", batch.line)
    return Batch(line=batch.line, size=batch.size * times)

async def slowly(path: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(path, "w").write(f"{os.getpid()} {child.pid}")
    time.sleep(60)

def busy() -> None:
    raise DeviceBusy("not now")

def breaks() -> None:
    raise ValueError("no batch")

def dies() -> None:
    os._exit(3)

def leaves() -> None:
    subprocess.Popen(["sleep", "120"], start_new_session=True)
"""


async def test_python_functions(
    run: Run, in_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed in and out, in a process of its own that ends with the step, allowed packages only."""
    import psutil

    (tmp_path / "recipes.py").write_text(FUNCTIONS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("SMARTOPS_PYTHON_PACKAGES", "recipes, others")
    get_settings.cache_clear()
    pids = tmp_path / "pids"

    def step(name: str, call: str, more: str = "") -> str:
        return (
            f"  - {{id: {name}, kind: python.call, function: {call}{more}, on_failure: continue}}\n"
        )

    detail = await run(
        "name: own-functions\nsteps:\n"
        + step("good", "recipes:double", ", args: {batch: {line: l1, size: 4}}")
        + step("wrong", "recipes:double", ", args: {batch: {line: l1, size: many}}")
        + step("slow", "recipes:slowly", f", args: {{path: '{pids}'}}, timeout: 15s, effect: read")
        + step("busy", "recipes:busy", ", retry: {attempts: 2, delay: 1ms}")
        + step("breaks", "recipes:breaks")
        + step("dies", "recipes:dies")
        + step("leaves", "recipes:leaves")
        + step("other", "os:getcwd")
    )
    found = {step.id: step for step in detail.steps}
    assert found["good"].output == {"value": {"line": "l1", "size": 8}}
    assert found["wrong"].error_class == "BadInput"
    assert "size" in (found["wrong"].error or "")
    assert found["slow"].error_class == "StepTimeout"
    for pid in pids.read_text().split():
        assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == "zombie"
    assert (found["busy"].error_class, found["busy"].attempts) == ("DeviceBusy", 2)
    assert "ValueError: no batch" in (found["breaks"].error or "")
    assert "exit status 3" in (found["dies"].error or "")
    assert found["leaves"].state == "completed"
    assert (found["leaves"].duration_s or 0) < 100, "it waited for a program that was left"
    assert "may not be called" in (found["other"].error or "")


async def test_an_end_in_doubt(run: Run, plant_control: PlantControl) -> None:
    """A step for the end whose outcome is not known: the run has not succeeded."""
    plant_control.switch_on("orders-commit-then-drop")
    detail = await run(
        "name: doubtful-end\nsteps:\n  - {id: a, kind: wait, duration: 1ms}\n"
        + post("end", "end", ", always: true")
    )
    assert (detail.run.state, states(detail)["end"]) == ("needs_decision", "unknown_outcome")
