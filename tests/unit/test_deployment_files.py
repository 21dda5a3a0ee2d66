"""The files by which systemd and Kubernetes run the services."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.utilities.importtools import import_object

from reports.objectives import load_all
from services.ending import grace_of
from smartops.alerts.policy import load_policy
from smartops.alerts.rules import OnSlo
from smartops.durations import parse_duration
from smartops.jobs.spec import JobSpec
from smartops.settings import Settings
from tests.conftest import ROOT, needs

UNITS = sorted((ROOT / "deployments/systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
MANIFEST: list[dict[str, Any]] = list(
    yaml.safe_load_all((ROOT / "deployments/kubernetes/worker.yaml").read_text())
)
SET, CONFIG = MANIFEST
POD: dict[str, Any] = SET["spec"]["template"]["spec"]
PREFECT_SETTINGS = {
    "PREFECT_API_URL",
    "PREFECT_HOME",
    "PREFECT_SERVER_ANALYTICS_ENABLED",
    "PREFECT_SERVER_LOGS_STREAM_OUT_ENABLED",
    "PREFECT_SERVER_LOGS_STREAM_PUBLISHING_ENABLED",
    "PREFECT_WORKER_QUERY_SECONDS",
    "PREFECT_WORKER_WEBSERVER_HOST",
    "PREFECT_WORKER_WEBSERVER_PORT",
}
OUR_SETTINGS = {f"SMARTOPS_{name.upper()}" for name in Settings.model_fields}


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify`, with this machine's folder in place of /opt/smartops."""
    needs(shutil.which("systemd-analyze") is not None, "systemd-analyze")
    for unit in UNITS:
        text = unit.read_text().replace("/opt/smartops", str(ROOT)).replace("User=smartops", "")
        (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "smartops" in line]
    assert not ours, done.stderr


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.stem)
def test_what_the_units_run_is_there(unit: Path) -> None:
    """Modules that exist, settings that exist; each is wanted by the target."""
    text = unit.read_text()
    command = re.search("^ExecStart=(.+)$", text, re.MULTILINE)
    assert command is not None
    words = command[1].split()
    if words[0].endswith("/python"):
        assert importlib.util.find_spec(words[2]) is not None
    names = set(re.findall(r"\b((?:SMARTOPS|PREFECT)_[A-Z_]+)=", text))
    assert names <= OUR_SETTINGS | PREFECT_SETTINGS
    assert unit.name in (ROOT / "deployments/systemd/smartops.target").read_text()


def test_a_worker_has_time_to_end() -> None:
    """Who stops it waits longer than the runs may go on and take back what they made."""
    job = JobSpec.model_fields["cleanup"].default.total_seconds()
    unit = (ROOT / "deployments/systemd/smartops-worker.service").read_text()
    stop = re.search("TimeoutStopSec=([0-9]+)", unit)
    limit = re.search("SMARTOPS_DRAIN_LIMIT=([0-9a-z]+)", unit)
    assert stop is not None
    assert limit is not None
    assert "KillMode=mixed" in unit
    both = [
        (int(stop[1]), limit[1]),
        (POD["terminationGracePeriodSeconds"], CONFIG["data"]["SMARTOPS_DRAIN_LIMIT"]),
    ]
    for wait_s, text in both:
        assert wait_s >= parse_duration(text).total_seconds() + job + 30


def test_the_manifest_is_whole() -> None:
    """What it names is there: probes on the port, settings, volumes; sidecars end after it."""
    (worker,) = POD["containers"]
    ports = {port["name"]: port["containerPort"] for port in worker["ports"]}
    assert str(ports["health"]) == CONFIG["data"]["PREFECT_WORKER_WEBSERVER_PORT"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert worker[probe]["httpGet"] == {"path": "/health", "port": "health"}
    assert "--with-healthcheck" in worker["command"]
    assert set(CONFIG["data"]) <= OUR_SETTINGS | PREFECT_SETTINGS
    assert all(isinstance(value, str) for value in CONFIG["data"].values())
    for container in POD["initContainers"]:
        assert container["restartPolicy"] == "Always"
        assert importlib.util.find_spec(container["command"][2]) is not None
    claims = {claim["metadata"]["name"] for claim in SET["spec"]["volumeClaimTemplates"]}
    for container in (*POD["initContainers"], worker):
        (mount,) = container["volumeMounts"]
        assert mount["name"] in claims
        assert mount["mountPath"] == CONFIG["data"]["SMARTOPS_HOME"]
        refs = [name for one in container["envFrom"] for name in one.values()]
        assert {"name": CONFIG["metadata"]["name"]} in refs
    labels = SET["spec"]["template"]["metadata"]["labels"]
    assert SET["spec"]["selector"]["matchLabels"] == labels


def test_the_shipped_rules_of_alerts_are_about_what_ships() -> None:
    """Jobs are called as on record: by their file, or by their flow and not by its deployment."""
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    flows = {import_object(deployment["entrypoint"]).name for deployment in deployments}
    known = flows | {file.stem for file in (ROOT / "deployments/jobs").glob("*.yaml")}
    rules = load_policy(ROOT / "deployments/alerts").rules
    named = {job for rule in rules for job in rule.names() if "*" not in job}
    assert named
    assert named <= known
    there = [
        (promise.job, one.called)
        for promise in load_all(ROOT / "deployments/slo")
        for one in promise.objectives
    ]
    burning = [rule for rule in rules if isinstance(rule, OnSlo)]
    assert burning
    assert all(any(rule.wants(*one) for one in there) for rule in burning)


class _Run:
    def __init__(self, job: Any) -> None:
        self.parameters = {"job": job} if job is not None else {}


def test_the_time_to_end_is_the_jobs() -> None:
    """What the job gives to cleaning up, and what its process needs besides; else 30 s."""
    assert grace_of(_Run({"cleanup": "2m"})) == 127  # type: ignore[arg-type]
    assert grace_of(_Run({})) == 32  # type: ignore[arg-type]
    parent = _Run({"steps": [{"kind": "wait"}, {"kind": "job"}]})
    assert grace_of(parent) == 32 + 20, "its child ends first"  # type: ignore[arg-type]
    assert grace_of(_Run(None)) == 30  # type: ignore[arg-type]
