"""The command line against the running system: what it prints, and its exit codes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from services import processes
from services.processes import clean_environment, wait_until
from services.stack import Stack, answers, prefect_environment
from smartops.settings import Settings
from tests.acceptance.conftest import Cli, PlantControl
from tests.conftest import ROOT, free_port, wait_for

pytestmark = pytest.mark.stack
PREFECT = Path(sys.executable).with_name("prefect")
ONE_STEP = "name: one-step\nsteps: [{id: s, kind: wait, duration: 1ms}]\n"


def test_line_check_runs_and_its_record_is_the_plants_own(
    cli: Cli, plant_control: PlantControl
) -> None:
    """The main job through the worker: what the record says is what the plant saw."""
    seen = {what: len(plant_control.log(what)) for what in ("modbus.write", "shift-log.post")}
    done = cli("job", "run", "line-check", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    steps = {step["id"]: step for step in document["steps"]}
    assert list(steps) == ["panel", "plc", "orders", "compare", "set_speed", "note"] or set(
        steps
    ) == {"panel", "plc", "orders", "compare", "set_speed", "note"}
    assert {step["state"] for step in steps.values()} == {"completed"}

    (write,) = plant_control.log("modbus.write")[seen["modbus.write"] :]
    assert (write["area"], write["address"], write["values"]) == ("holding", 0, [140])
    (command,) = document["commands"]
    assert (command["requested"], command["after"], command["state"]) == (140, 140, "confirmed")
    (post,) = plant_control.log("shift-log.post")[seen["shift-log.post"] :]
    assert post["good"] == steps["plc"]["output"]["values"]["good_count"]
    assert post["text"] == "Cola 0.5 l at 140 1/min"

    (picture,) = steps["panel"]["output"]["screenshots"]
    content = Path(picture["path"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == picture["sha256"]

    shown = cli("run", "show", document["run_id"], "--json")
    again = json.loads(shown.stdout)
    # How its process ended comes later.
    assert again.pop("events") >= document.pop("events")
    assert len(again.pop("processes")) >= len(document.pop("processes"))
    assert again == document
    listed = json.loads(cli("run", "list", "--json", "--job", "line-check").stdout)
    assert document["run_id"] in [run["run_id"] for run in listed]
    logs = cli("run", "logs", document["run_id"])
    assert "speed_setpoint" in logs.stdout
    assert cli("run", "show", document["run_id"][:8]).returncode == 0


def test_live_news_reach_the_terminal(cli: Cli, tmp_path: Path) -> None:
    """States and log lines come while it runs, on stderr; the table comes on stdout."""
    (tmp_path / "job.yaml").write_text(
        "name: live\nsteps:\n  - {id: first, kind: wait, duration: 1ms}\n"
        "  - {id: second, kind: wait, needs: [first], duration: 2s}\n"
    )
    done = cli("job", "run", "job.yaml", "--wait")
    assert done.returncode == 0, done.stderr
    assert "goes on if you interrupt" in done.stderr
    for word in ("first", "second", "Running", "Completed", "waited 0.001 s"):
        assert word in done.stderr
    assert "second" in done.stdout
    assert "Running" not in done.stdout


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("plc-offline", "no answer at 127.0.0.1"),
        ("hmi-password-changed", "Check user name and password of profile 'plant-hmi'"),
        ("orders-down", "answered 503"),
    ],
)
def test_a_sick_plant_fails_the_job_and_nothing_is_half_written(
    cli: Cli, plant_control: PlantControl, fault: str, said: str
) -> None:
    """Exit code 1, the reason in the record, and not a single write or post."""
    seen = {what: len(plant_control.log(what)) for what in ("modbus.write", "shift-log.post")}
    plant_control.switch_on(fault)
    done = cli("job", "run", "line-check", "--wait", "--json")
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert document["state"] == "failed"
    assert said in document["message"]
    for what, count in seen.items():
        assert len(plant_control.log(what)) == count


def test_a_failed_run_shows_no_traceback(cli: Cli, quick: Cli, tmp_path: Path) -> None:
    """Its reason is in the table; the traceback is in the log, for who asks for it."""
    (tmp_path / "job.yaml").write_text(
        "name: fails\nsteps: [{id: s, kind: assert, checks: [{left: 1, right: 2}]}]"
    )
    done = cli("job", "run", "job.yaml", "--wait")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr + done.stdout
    (run,) = json.loads(quick("run", "list", "--json", "--job", "fails").stdout)

    def whole() -> bool:
        lines = json.loads(quick("run", "logs", run["run_id"], "--json").stdout)
        return any("Traceback" in line["text"] for line in lines)

    wait_for(whole, "the traceback in the log")
    assert "Traceback" not in quick("run", "logs", run["run_id"]).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["job", "run", "no-such-job"], 2, "no job 'no-such-job' is deployed"),
        (["job", "run", "missing.yaml"], 2, "missing.yaml cannot be read"),
        (
            ["job", "run", "bad.yaml"],
            2,
            "bad.yaml:2: steps.0: give one of duration, tag, url and message",
        ),
        (["job", "run", "line-check", "-p", "speed=1"], 2, "has no parameter 'speed'"),
        (["job", "run", "tank-guard", "-p", "least=low"], 2, "is not of type"),
        (["job", "run", "line-check", "-p", "speed"], 2, "write a parameter as key=value"),
        (["job", "lint", "bad.yaml"], 2, "bad.yaml:2"),
        (["run", "show", "0000000000"], 2, "there is no run"),
        (["run", "list", "--state", "happy"], 2, "unknown state 'happy'"),
        (["run", "list", "--since", "yesterday"], 2, "--since"),
        (["run", "list", "--since", "99999999999d"], 2, "--since"),
        (["run", "list", "--since", "0001-01-01"], 2, "--since"),
        (["job", "run", "tank-guard", "-p", "least=NaN"], 2, "no number that can be used"),
        (["run", "show", "f"], 2, "at least 4 of its digits"),
        (["plant", "--fault", "fire"], 2, "unknown fault 'fire'"),
        (["no-such-command"], 2, "No such command"),
        (["run", "list", "--limit", "0"], 2, "limit"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    quick: Cli, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    """Nothing is started, nothing is printed on stdout."""
    (tmp_path / "bad.yaml").write_text("name: bad\nsteps: [{id: s, kind: wait}]\n")
    done = quick(*arguments)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""


def test_a_port_that_is_taken(cli: Cli, stack: Stack) -> None:
    """The plant's port is the running plant's: one line that says so."""
    assert stack.plant is not None
    free = [f"--{name}-port=0" for name in ("modbus", "orders", "hmi", "opcua", "mqtt")]
    done = cli("plant", *free, "--hmi-port", str(stack.plant.hmi_port))
    assert done.returncode == 2
    assert f"port {stack.plant.hmi_port} on 127.0.0.1 is taken" in done.stderr
    done = cli("plant", *free, "--modbus-port", str(stack.plant.modbus_port))
    assert done.returncode == 2
    assert f"port {stack.plant.modbus_port} on 127.0.0.1 is taken" in done.stderr


def test_services_that_are_away(cli: Cli, tmp_path: Path) -> None:
    """No Prefect, no database: exit code 3, one line, and no password in it."""
    (tmp_path / "job.yaml").write_text(ONE_STEP)
    nowhere = f"http://127.0.0.1:{free_port()}/api"
    done = cli("job", "run", "job.yaml", env={"PREFECT_API_URL": nowhere})
    assert (done.returncode, done.stdout) == (3, "")
    assert "Prefect's API does not answer" in done.stderr
    done = cli("job", "run", "job.yaml", env={"SMARTOPS_HOME": str(tmp_path / "empty")})
    assert done.returncode == 3
    assert "smartops up --detach" in done.stderr
    url = f"mysql+pymysql://me:hidden-word@127.0.0.1:{free_port()}/x"
    done = cli("run", "list", env={"SMARTOPS_DATABASE_URL": url})
    assert done.returncode == 3
    assert "hidden-word" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    (tmp_path / "afile").write_text("no database")
    for name, value, code in (
        ("SMARTOPS_DATABASE_URL", "nonsense", 2),
        ("SMARTOPS_DATABASE_URL", f"sqlite:///{tmp_path / 'afile'}", 3),
        ("SMARTOPS_HOME", str(tmp_path / "afile"), 2),
        ("SMARTOPS_HOME", "/proc/nope", 2),
        ("SMARTOPS_LOCK_TIMEOUT", "nonsense", 2),
    ):
        done = cli("run", "list", env={name: value})
        assert done.returncode == code, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_status_and_doctor(cli: Cli, tmp_path: Path) -> None:
    """All services are up; each thing that is needed is found; a missing browser has a cure."""
    status = json.loads(cli("status", "--json").stdout)
    assert status["running"] is True
    names = [row["name"] for row in status["services"]]
    assert names == ["prefect", "plant", "recorder", "reconciler", "worker"]
    findings = json.loads(cli("doctor", "--json").stdout)
    assert all(finding["ok"] for finding in findings), findings
    done = cli("doctor", "--json", env={"SMARTOPS_BROWSER_EXECUTABLE": str(tmp_path / "none")})
    assert done.returncode == 1
    (browser,) = [f for f in json.loads(done.stdout) if not f["ok"]]
    assert "apt-get install chromium" in browser["cure"]
    done = cli("status", env={"SMARTOPS_HOME": str(tmp_path / "empty")})
    assert done.returncode == 3


def test_lint_and_plan(cli: Cli, tmp_path: Path) -> None:
    """Good files are ok; the plan shows what runs in parallel."""
    file = str(ROOT / "deployments/jobs/line-check.yaml")
    assert cli("job", "lint", file).stdout.strip().endswith("ok")
    plan = json.loads(cli("job", "plan", file, "--json").stdout)
    waves: dict[int, list[str]] = {}
    for step in plan["steps"]:
        waves.setdefault(step["wave"], []).append(step["step"])
    assert list(waves.values()) == [
        ["panel", "plc", "orders"],
        ["compare"],
        ["set_speed"],
        ["note"],
    ]


def test_the_store_may_be_mysql(cli: Cli, mysql_url: str, tmp_path: Path) -> None:
    """One URL away: the same commands on MariaDB or MySQL."""
    env = {"SMARTOPS_DATABASE_URL": mysql_url, "SMARTOPS_HOME": str(tmp_path / "home")}
    env["SMARTOPS_SHIP_AT_RUN_END"] = "60s"  # nobody else brings it to the store
    assert "migrated" in cli("audit", "migrate", env=env).stdout
    assert "unchanged" in cli("audit", "migrate", env=env).stdout
    code = "import asyncio\nfrom smartops import audited\n"
    code += "@audited\nasync def f(n=3): ...\nasyncio.run(f())"
    own = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    subprocess.run([sys.executable, "-c", code], env={**own, **env}, check=True, cwd=tmp_path)
    (run,) = json.loads(cli("run", "list", "--json", env=env).stdout)
    assert (run["job"], run["state"], run["params"]) == ("f", "completed", {"n": 3})
    stats = json.loads(cli("audit", "stats", "--json", env=env).stdout)
    assert stats["rows"]["job_run"] == 1
    assert stats["waiting_in_journals"] == 0


def _processes_of(home: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SMARTOPS_HOME") == str(home):
                found.append(" ".join(process.cmdline()))
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def _try(home: Path, *arguments: str) -> subprocess.Popen[str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "SMARTOPS_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "smartops", "try", *arguments],
        env={**own, "SMARTOPS_HOME": str(home), "HOME": str(home.parent)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_whole_system_on_mysql(cli: Cli, mysql_url: str, tmp_path: Path) -> None:
    """A job is made, changed and run there, and all of that comes on record."""
    home, file = tmp_path / "home", tmp_path / "ticks.yaml"
    env = {"SMARTOPS_DATABASE_URL": mysql_url, "SMARTOPS_HOME": str(home)}

    def done(*arguments: str) -> str:
        found = cli(*arguments, env=env, limit_s=480)
        assert found.returncode == 0, found.stderr
        return found.stdout

    try:
        done("up", "--detach")
        for pause in ("1ms", "2ms"):
            file.write_text(f"name: ticks\nsteps: [{{id: tick, kind: wait, duration: {pause}}}]\n")
            done("job", "apply", str(file))
        done("job", "run", "ticks", "--wait")
    finally:
        cli("down", env=env)
    stats = json.loads(done("audit", "stats", "--json"))
    assert stats["waiting_in_journals"] == 0
    assert stats["rows"]["job_change"] >= 2
    assert [run["state"] for run in json.loads(done("run", "list", "--json"))] == ["completed"]
    done("audit", "verify", "--tables")
    assert _processes_of(home) == []


def test_the_first_run_in_one_command(stack: Stack, tmp_path: Path) -> None:
    """What `make run` calls, on ports that are free: it ends by itself and leaves nothing."""
    home = tmp_path / "home"
    profile = tmp_path / ".prefect" / "profiles.toml"
    profile.parent.mkdir()
    profile.write_text(
        'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://elsewhere/api"\n'
    )
    before = profile.read_text()
    with _try(home) as trying:
        stdout, stderr = trying.communicate(timeout=180)
    assert trying.returncode == 0, stderr
    for text in (
        "set_speed",
        "confirmed",
        "screenshot",
        " events, 6 steps, 1 commands",
        "make up",
    ):
        assert text in stdout
    assert _processes_of(home) == []
    assert profile.read_text() == before
    assert [p.name for p in profile.parent.iterdir()] == ["profiles.toml"]


def test_an_interrupted_first_run_leaves_nothing(stack: Stack, tmp_path: Path) -> None:
    """SIGTERM in the middle of starting: every process is gone afterwards."""
    home = tmp_path / "home"
    with _try(home) as trying:
        wait_for(lambda: len(_processes_of(home)) > 3, "the services' start", 120)
        trying.send_signal(signal.SIGTERM)
        _, stderr = trying.communicate(timeout=180)
    assert trying.returncode == 130, stderr
    assert _processes_of(home) == []


def test_the_work_pool_is_ours(stack: Stack) -> None:
    """The worker made the pool with our type, and Prefect's API knows it."""
    with urllib.request.urlopen(f"{stack.api_url}/work_pools/smartops", timeout=10) as answer:
        assert json.load(answer)["type"] == "smartops"


@pytest.mark.parametrize(
    "command", [[sys.executable, "-m", "prefect"], [str(PREFECT)]], ids=["-m", "script"]
)
def test_deploying_needs_nothing_but_an_api(tmp_path: Path, command: list[str]) -> None:
    """A fresh Prefect server, no worker, no pool, no block: `prefect deploy --all` does it all."""
    port = free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    home = tmp_path / "home"
    home.mkdir()
    env = clean_environment(prefect_environment(Settings(home=home), api_url))
    server = processes.start(
        "prefect",
        ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        env=env,
        log=tmp_path / "server.log",
    )
    try:
        wait_until(lambda: answers(api_url), [server], what="the server's start", limit_s=180)
        subprocess.run(
            [*command, "deploy", "--all"], env=env, cwd=ROOT, capture_output=True, check=True
        )
        request = urllib.request.Request(
            f"{api_url}/deployments/filter", b"{}", {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            names = {deployment["name"] for deployment in json.load(answer)}
        examples = {file.stem for file in (ROOT / "deployments/jobs").glob("*.yaml")}
        own_reports = {file.stem for file in (ROOT / "deployments/reports").glob("*.yaml")}
        reports = {f"report-{name}" for name in ("daily", "weekly", "monthly", *own_reports)}
        verified = {"audit-verification", "audit-verification-tables"}
        own = {"run-job", "retention", "data-quality", "shift-report", *reports, *verified}
        assert names == own | examples
    finally:
        processes.stop_all([server])


def test_two_systems_that_start_at_once_do_not_mix(tmp_path: Path) -> None:
    """Both want the same ports: each ends up with a server and a plant of its own."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "SMARTOPS_"))}
    homes = [tmp_path / "one", tmp_path / "two"]
    starting = [
        subprocess.Popen(
            [sys.executable, "-m", "smartops", "up", "--detach"],
            env={**own, "SMARTOPS_HOME": str(home)},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for home in homes
    ]
    try:
        for process in starting:
            _, stderr = process.communicate(timeout=480)
            assert process.returncode == 0, stderr
        states = [json.loads((home / "run" / "stack.json").read_text()) for home in homes]
        assert states[0]["api_url"] != states[1]["api_url"]
        assert not set(states[0]["plant"].values()) & set(states[1]["plant"].values())
    finally:
        for process in starting:  # one that still starts its services would do so after `down`
            process.terminate()
            process.wait(120)
        for home in homes:
            down = [sys.executable, "-m", "smartops", "down"]
            subprocess.run(down, env={**own, "SMARTOPS_HOME": str(home)}, check=True)
    assert [_processes_of(home) for home in homes] == [[], []]
