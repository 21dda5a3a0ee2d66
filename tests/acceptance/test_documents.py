"""What the documents say is run: the README's job and Python, the tutorial, the plugin."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from services.stack import Stack
from smartops.plant.mosquitto import find_executable
from tests.acceptance.conftest import Cli, Run, fenced
from tests.conftest import PREFECT_LEAVES_SOCKETS, ROOT, needs, wait_for

pytestmark = pytest.mark.stack


def python(stack: Stack, folder: Path, code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a Python text as a user's script would be run beside the stack."""
    script = folder / "script.py"
    script.write_text(code)
    return subprocess.run(
        [sys.executable, str(script)],
        env={**stack.environment, "PYTHONPATH": str(folder), **env},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_readmes_job(cli: Cli, tmp_path: Path) -> None:
    """At most ten lines, and it runs as the README says."""
    text = fenced("README.md", "yaml", "hourly-level")
    assert len(text.splitlines()) <= 10
    (tmp_path / "hourly-level.yaml").write_text(text)
    done = cli("job", "run", "hourly-level.yaml", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    level, enough = json.loads(done.stdout)["steps"]
    assert (level["state"], enough["state"]) == ("completed", "completed")
    assert level["output"]["readings"]["tank_level"]["unit"] == "%"


@PREFECT_LEAVES_SOCKETS
async def test_the_job_for_opc_ua(run: Run) -> None:
    """As the page shows it: read, written and read back, called."""
    detail = await run(fenced("docs/how-to/opcua.md", "yaml", "cell-report"))
    assert detail.run.state == "completed", detail.run.message
    assert [step.state for step in detail.steps] == ["completed"] * 3


@PREFECT_LEAVES_SOCKETS
@pytest.mark.parametrize(
    ("page", "name"), [("mqtt", "slow-line"), ("serial", "weigh"), ("rest", "shift-orders")]
)
async def test_the_jobs_for_mqtt_serial_lines_and_services(run: Run, page: str, name: str) -> None:
    """As the pages show them, against the plant's broker, scale, barcode reader and orders."""
    needs(page != "mqtt" or find_executable() is not None, "Mosquitto")
    detail = await run(fenced(f"docs/how-to/{page}.md", "yaml", f"name: {name}"))
    assert detail.run.state == "completed", detail.run.message
    assert [step.state for step in detail.steps] == ["completed"] * 3


def test_a_run_by_the_rest_api(stack: Stack, cli: Cli) -> None:
    """The example of the page on changing jobs starts a run with the parameter that it gives."""
    done = subprocess.run(
        ["bash", "-c", fenced("docs/how-to/change.md", "bash", "create_flow_run")],
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    run_id = json.loads(done.stdout)["id"]

    def ended() -> Any:
        shown = cli("run", "show", run_id, "--json")
        found = json.loads(shown.stdout) if shown.returncode == 0 else {}
        return found if found.get("ended_at") else None

    found: Any = wait_for(ended, "the end of the run", 60)
    assert (found["state"], found["params"]) == ("completed", {"least": 30})


def test_a_job_by_the_rest_api(stack: Stack, cli: Cli, tmp_path: Path) -> None:
    """The other example creates, starts, schedules, pauses, cancels and deletes a job."""
    code = fenced("docs/how-to/change.md", "python", "set_state")
    done = python(stack, tmp_path, code)
    assert done.returncode == 0, done.stderr
    said = cli("run", "explain", done.stdout.strip())
    assert "cancel" in said.stdout.lower(), said
    gone = cli("job", "show", "by-rest")
    assert (gone.returncode, "no job 'by-rest' is deployed" in gone.stderr) == (2, True)


def test_the_readmes_python(stack: Stack, cli: Cli, tmp_path: Path) -> None:
    """The same in Python, by plain python, with the same record."""
    code = fenced("README.md", "python", "hourly_level")
    done = python(stack, tmp_path, f"{code}\nimport asyncio\nprint(asyncio.run(hourly_level()))")
    assert done.returncode == 0, done.stderr
    (run,) = json.loads(
        cli("run", "list", "--json", "--job", "hourly-level", "--limit", "1").stdout
    )
    detail = json.loads(cli("run", "show", run["run_id"], "--json").stdout)
    assert (detail["kind"], detail["state"]) == ("flow", "completed")
    (step,) = detail["steps"]
    assert (step["kind"], step["inputs"]["device"]) == ("modbus.read", {"connection": "plant-line"})
    assert float(done.stdout.splitlines()[-1]) == step["output"]["value"]


def test_a_python_flow_by_deployment_and_by_python(stack: Stack, cli: Cli) -> None:
    """flows/close_shift.py: the same record, whoever starts it."""
    command = ["prefect", "deployment", "run", "close-shift/shift-report", "--watch"]
    for arguments in (["-m", *command], ["flows/close_shift.py"]):
        subprocess.run(
            [sys.executable, *arguments],
            env=stack.environment,
            cwd=ROOT,
            capture_output=True,
            timeout=120,
            check=True,
        )
    runs = json.loads(cli("run", "list", "--json", "--job", "close-shift", "--limit", "2").stdout)
    plain, deployed = (
        json.loads(cli("run", "show", run["run_id"], "--json").stdout) for run in runs
    )
    assert (plain["deployment"] is None, deployed["deployment"] is None) == (True, False)
    for run in (plain, deployed):
        assert (run["state"], run["params"]) == ("completed", {"line": "line-1"})
        kinds = [(step["kind"], step["effect"], step["state"]) for step in run["steps"]]
        assert kinds == [
            ("modbus.read", "read", "completed"),
            ("rest.request", "unsafe", "completed"),
        ]


def test_the_plugin_of_contributing(stack: Stack, cli: Cli, tmp_path: Path) -> None:
    """A kind from a module of one's own: in the form's schema, run, on record."""
    (tmp_path / "shout.py").write_text(fenced("CONTRIBUTING.md", "python", "class Shout"))
    (tmp_path / "job.yaml").write_text(
        "name: shouting\nsteps: [{id: s, kind: toy.shout, text: 'it is {{ run.job }}'}]\n"
    )
    code = """
import asyncio, json
from prefect.utilities.callables import parameter_schema
from flows.run_job import run_job
from smartops.jobs import loader
schema = parameter_schema(run_job).model_dump()
steps = schema["definitions"]["JobSpec"]["properties"]["steps"]
print(json.dumps([schema["definitions"]["Shout"]["title"], "Shout" in json.dumps(steps)]))
print(json.dumps(asyncio.run(run_job(loader.load("job.yaml")))))
"""
    done = python(stack, tmp_path, code, SMARTOPS_PLUGINS="shout")
    assert done.returncode == 0, done.stderr
    *_, schema, outputs = done.stdout.splitlines()
    assert json.loads(schema) == ["Shout", True]
    assert json.loads(outputs) == {"s": {"loud": "IT IS SHOUTING"}}
    (run,) = json.loads(cli("run", "list", "--json", "--job", "shouting").stdout)
    (step,) = json.loads(cli("run", "show", run["run_id"], "--json").stdout)["steps"]
    assert (step["kind"], step["output"]) == ("toy.shout", {"loud": "IT IS SHOUTING"})
    without = cli("job", "lint", "job.yaml")
    assert (without.returncode, "unknown kind 'toy.shout'" in without.stderr) == (2, True)


def test_the_tutorial(stack: Stack, tmp_path: Path) -> None:
    """Every file of it is written, every command of it is run, in order."""
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    own = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    commands = 0
    for token in MarkdownIt().parse((ROOT / "docs/tutorial.md").read_text()):
        words = token.info.split()
        if token.type != "fence":
            continue
        if words[0] == "yaml":
            name = token.content.splitlines()[0].removeprefix("name: ")
            (tmp_path / f"{name}.yaml").write_text(token.content)
            continue
        for line in token.content.splitlines():
            if line.startswith("make "):  # the stack of the tests is up already
                continue
            done = subprocess.run(
                shlex.split(line),
                env={**own, "SMARTOPS_HOME": str(stack.settings.home)},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == ("fails" in words), f"{line}\n{done.stdout}{done.stderr}"
            commands += 1
    assert commands >= 8
