"""Any job: order, parallel steps, undo, the end, and taking up, counted by the plant."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import pytest

from reports.runs import RunDetail, Wanted, get_run, list_runs
from services.stack import Stack
from smartops.audit.store import Store
from smartops.errors import SmartOpsError
from smartops.jobs.spec import JobSpec
from tests.acceptance.conftest import PlantControl, ship, states
from tests.conftest import PREFECT_LEAVES_SOCKETS

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
Needs = dict[str, set[str]]


def note(text: str) -> dict[str, Any]:
    body = {"line": "line-1", "text": text, "good": 1, "scrap": 0}
    request = {"kind": "rest.request", "service": "plant-orders", "method": "POST"}
    return {**request, "path": "/shift-log", "body": body}


def any_job(seed: int) -> tuple[JobSpec, Needs, set[str], set[str]]:
    """Return a job, who needs whom, the steps that fail unless ``ok``, and those with an undo."""
    chance = random.Random(seed)
    needs: Needs = {}
    checks: set[str] = set()
    undoable: set[str] = set()
    steps: list[dict[str, Any]] = []
    for number in range(chance.randint(4, 9)):
        name = f"s{number}"
        needs[name] = {other for other in needs if chance.random() < 0.3}
        step: dict[str, Any] = {"id": name, "needs": sorted(needs[name])}
        if chance.random() < 0.25:
            checks.add(name)
            ok = {"left": "{{ params.ok }}", "right": True}
            steps.append({**step, "kind": "assert", "checks": [ok]})
            continue
        if chance.random() < 0.5:
            undoable.add(name)
            step["undo"] = note(f"{seed} not {name}")
        steps.append({**step, **note(f"{seed} {name}")})
    steps.append({"id": "end", "always": True, **note(f"{seed} end")})
    params = {"ok": {"type": "boolean"}}
    spec = {"name": f"any-{seed}", "params": params, "steps": steps}
    return JobSpec.model_validate(spec), needs, checks, undoable


def behind(needs: Needs, of: set[str]) -> set[str]:
    """Return some steps and all that need one of them, however far."""
    found = set(of)
    for name, needed in needs.items():  # in the order of the file, which respects the needs
        if needed & found:
            found.add(name)
    return found


@pytest.mark.parametrize("seed", range(8))
async def test_any_job(in_stack: Stack, plant_control: PlantControl, seed: int) -> None:
    """First with checks that fail, then taken up with checks that hold."""
    from flows.run_job import run_job
    from flows.taking_up import Resume

    spec, needs, checks, undoable = any_job(seed)
    store = Store(in_stack.settings.store_url)
    before = len(plant_control.log("shift-log.post"))

    def newest() -> RunDetail:
        ship(store, in_stack)
        return get_run(store, str(list_runs(store, Wanted(job=spec.name), limit=1)[0].run_id))

    def posted() -> list[str]:
        entries = plant_control.log("shift-log.post")[before:]
        return [str(entry["text"]).removeprefix(f"{seed} ") for entry in entries]

    with contextlib.suppress(SmartOpsError):
        await run_job(spec, {"ok": False})
    first = newest()
    reached = _first(needs, checks)
    made = set(needs) - behind(needs, checks)
    undone = undoable & made if checks else set()
    found = states(first)
    assert {name for name in needs if found[name] == "completed"} == made
    assert {name for name in needs if found[name] == "failed"} == reached
    assert {name for name in needs if found[name] == "skipped"} == set(needs) - made - reached
    seen = posted()
    assert sorted(seen) == sorted([*made, *(f"not {name}" for name in undone), "end"])
    assert seen[-1] == "end"
    for name in made:
        assert all(seen.index(need) < seen.index(name) for need in needs[name] & made)
    for name in undone:
        for other in behind(needs, {name}) & undone - {name}:
            assert seen.index(f"not {other}") < seen.index(f"not {name}")

    await run_job(spec, {"ok": True}, resume=Resume(run=first.run.run_id))
    assert newest().run.state == "completed"
    again = behind(needs, (set(needs) - made) | undone) if checks else set()
    counts = {name: posted().count(name) for name in set(needs) - checks}
    assert counts == {name: 1 + (name in made and name in again) for name in counts}
    assert posted().count("end") == 2
    store.close()


def _first(needs: Needs, checks: set[str]) -> set[str]:
    """Return the checks that are reached: those behind no other check."""
    return {name for name in checks if not any(name in behind(needs, {o}) for o in checks - {name})}
