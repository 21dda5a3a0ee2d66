"""The guards: what must be true of the tree itself."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prefect.utilities.importtools import import_object
from pydantic import BaseModel

from blocks import (
    BrowserProfile,
    HttpService,
    ModbusDevice,
    MqttBroker,
    OpcUaServer,
    SerialLine,
)
from blocks.modbus import AddressRange
from reports.own import files as own_reports
from reports.own import spec as own_spec
from scripts.alert_option_tests import ALERT_OPTION_TESTS
from scripts.device_option_tests import DEVICE_OPTION_TESTS
from scripts.option_tests import OPTION_TESTS
from scripts.report_option_tests import REPORT_OPTION_TESTS
from services import automation_files
from smartops.alerts import policy as alert_policy
from smartops.alerts import rules as alert_rules
from smartops.drivers.device_tag import DeviceTag, Interlock
from smartops.drivers.opcua_tags import OpcTag
from smartops.drivers.tag_files import load_map, load_tags
from smartops.drivers.tags import Tag
from smartops.jobs import graph, loader
from smartops.jobs.alerting import Alert
from smartops.jobs.event_sources import load_sources
from smartops.jobs.kinds import BUILT_IN
from smartops.jobs.kinds.check import Check
from smartops.jobs.kinds.wait import MessageCondition, TagCondition, UrlCondition
from smartops.jobs.param import Param
from smartops.jobs.scheduling import Between, Missed, Schedule, SkipOn
from smartops.jobs.spec import STEP_KINDS, JobSpec
from smartops.jobs.step import Retry, StepBase
from smartops.page_actions import ACTIONS, Target
from smartops.page_table import Column
from tasks import catalogue
from tests.conftest import ROOT

PACKAGES = ("smartops", "blocks", "tasks", "flows", "services", "reports", "deployments")
DEPLOYMENTS = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
OUR_FILES = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_every_entrypoint_loads(deployment: dict[str, str]) -> None:
    """Dotted, importable, and a flow."""
    assert ":" not in deployment["entrypoint"]
    assert type(import_object(deployment["entrypoint"])).__name__ == "Flow"


@pytest.mark.parametrize(
    "deployment",
    [d for d in DEPLOYMENTS if "job" not in d.get("parameters", {})],
    ids=lambda d: d["name"],
)
def test_every_flow_takes_its_deployments_parameters(deployment: dict[str, Any]) -> None:
    """As Prefect checks them when a run begins."""
    flow = import_object(deployment["entrypoint"])
    given = deployment.get("parameters", {})
    if flow.name != "run-job":
        assert given.items() <= flow.validate_parameters(given).items()


@pytest.mark.parametrize("file", loader.job_files(ROOT / "deployments/jobs"), ids=lambda f: f.stem)
def test_every_job_file_compiles_and_is_deployed(file: Path) -> None:
    """Valid, compiled, named like its file, and in prefect.yaml."""
    job = loader.load(file)
    graph.compile(job)
    assert job.name == file.stem
    assert job.description
    assert job.name in [deployment["name"] for deployment in DEPLOYMENTS]


@pytest.mark.parametrize(
    "file", sorted((ROOT / "deployments/reports").glob("*.yaml")), ids=lambda f: f.stem
)
def test_every_report_file_loads_and_is_deployed(file: Path) -> None:
    """Valid, named like its file, and in prefect.yaml."""
    report = own_reports.load(file)
    assert f"report-{report.name}" in [deployment["name"] for deployment in DEPLOYMENTS]


@pytest.mark.parametrize(
    "file", sorted((ROOT / "deployments/tags").iterdir()), ids=lambda f: f.stem
)
def test_every_tag_map_loads(file: Path) -> None:
    """Each shipped tag map is valid."""
    assert load_map(file, OpcTag) if "node:" in file.read_text() else load_tags(file)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "deployments/automations").iterdir()), ids=lambda f: f.stem
)
def test_every_automation_loads(file: Path) -> None:
    """Each shipped automation is valid, and starts a job that ships, with parameters of it."""
    for action in automation_files.load(file).document["actions"]:
        job = loader.load(ROOT / f"deployments/jobs/{action['job']}.yaml")
        assert set(action["params"]) <= set(job.params)


@pytest.mark.parametrize(
    "file", sorted((ROOT / "deployments/sources").iterdir()), ids=lambda f: f.stem
)
def test_every_file_of_sources_loads(file: Path) -> None:
    """Each shipped file of sources is valid."""
    assert load_sources(file).sources


def test_the_core_imports_without_prefect() -> None:
    """With Prefect blocked, every module of the core and of the reading side imports."""
    files = [f for f in OUR_FILES if f.parts[len(ROOT.parts)] in {"smartops", "reports"}]
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for file in files
        if not {"cli", "versions"} & set(file.parts) and file.name not in {"env.py", "__main__.py"}
    ]
    assert len(modules) > 30
    code = "import sys; sys.modules['prefect'] = None\n" + "".join(f"import {m}\n" for m in modules)
    subprocess.run([sys.executable, "-c", code], check=True)


@cache
def _installed() -> frozenset[str]:
    """Return the installed modules that ours may not hide; finding them takes a while."""
    return frozenset(packages_distributions()) - {*PACKAGES, "browser", "check", "wait"}


@pytest.mark.parametrize("file", OUR_FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_module_shadows_another(file: Path) -> None:
    """No module at the top of a package has the name of one of Python's or an installed one."""
    if file.parent == ROOT / file.parts[len(ROOT.parts)] and file.name != "__init__.py":
        assert file.stem not in sys.stdlib_module_names | _installed()
    if file.name == "__init__.py" and file.parent.parent == ROOT:
        assert file.parent.name not in sys.stdlib_module_names


@pytest.mark.parametrize("package", PACKAGES)
def test_each_top_level_package_says_what_it_is(package: str) -> None:
    """One sentence as the docstring."""
    text = (ROOT / package / "__init__.py").read_text()
    docstring = re.match(r'"""(.+?)"""', text, re.DOTALL)
    assert docstring is not None
    assert docstring[1].strip().endswith(".")


@pytest.mark.parametrize("kind", sorted(STEP_KINDS))
def test_a_kinds_fields_are_its_steps_arguments(kind: str) -> None:
    """What a job file may say is what the step takes: no field is accepted and then ignored."""
    definition = catalogue.load()[kind]
    fields = set(STEP_KINDS[kind].model_fields) - set(StepBase.COMMON)
    assert fields == set(inspect.signature(definition.function).parameters)


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_kind_is_one_file_per_layer(name: str) -> None:
    """The same name in the language and in the tasks."""
    assert (ROOT / "smartops/jobs/kinds" / f"{name}.py").is_file()
    assert (ROOT / "tasks" / f"{name}.py").is_file()


@pytest.mark.parametrize("file", OUR_FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_files_stay_readable(file: Path) -> None:
    """No file above 400 lines, none without a docstring."""
    text = file.read_text()
    assert len(text.splitlines()) <= 400
    assert text.startswith('"""')


def test_no_file_names_a_registry_or_this_machine() -> None:
    """No index address, no download address, no path of a developer's machine is committed."""
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    forbidden = re.compile(
        r"--(extra-)?index-url|files\.python"
        + r"hosted|//pypi\."
        + r"|registry\.npm"
        + r"js|\.whl\b"
    )
    for name in listed.stdout.split():
        file = ROOT / name
        if file.suffix != ".png" and file.is_file() and file != Path(__file__):
            assert not forbidden.search(file.read_text("utf-8")), name
            assert str(ROOT) not in file.read_text("utf-8") or len(ROOT.parts) < 3, name


NO_SECRETS = ("api_key_name", "api_key_in", "client_key")
"""Fields that only sound like secrets: where a key is sent, and the path of a file."""


@pytest.mark.parametrize("block", [BrowserProfile, HttpService, ModbusDevice])
def test_secrets_of_connections_are_secrets(block: type) -> None:
    """Every field whose name says secret is one of pydantic's or Prefect's secrets."""
    for name, field in block.model_fields.items():  # type: ignore[attr-defined]
        if re.search("password|token|secret|key", name) and name not in NO_SECRETS:
            assert re.search("Secret(Str|Dict)", str(field.annotation)), name


def test_each_option_has_a_test() -> None:
    """The table in the docs: every option of the language, and a test that there is."""
    groups: dict[str, tuple[type[BaseModel], tuple[str, ...]]] = {
        "job": (JobSpec, ()),
        "param": (Param, ()),
        "step": (StepBase, ("kind",)),
        "retry": (Retry, ()),
        "schedule": (Schedule, ()),
        "missed": (Missed, ()),
        "skip_on": (SkipOn, ()),
        "between": (Between, ()),
        "alert": (Alert, ()),
        "check": (Check, ()),
        "tag condition": (TagCondition, ()),
        "url condition": (UrlCondition, ()),
        "message condition": (MessageCondition, ()),
        **{f"action {name}": (action, ("do",)) for name, action in ACTIONS.items()},
        "target": (Target, ()),
        "column": (Column, ()),
        "profile": (BrowserProfile, ()),
        **{kind: (model, StepBase.COMMON) for kind, model in STEP_KINDS.items() if kind != "job"},
    }
    wanted = {
        f"{group}.{field}"
        for group, (model, left_out) in groups.items()
        for field in model.model_fields
        if field not in left_out
    }
    own = {f"job step.{field}" for field in ("job", "params", "timeout")}
    assert set(OPTION_TESTS) == wanted | own
    for test in OPTION_TESTS.values():
        file, _, name = test.partition("::")
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), test


def test_each_option_of_devices_has_a_test() -> None:
    """The same for connections to devices and their tags; what all tags have stands there once."""
    common = set(DeviceTag.model_fields)
    groups: dict[str, tuple[type[BaseModel], set[str]]] = {
        "MQTT broker": (MqttBroker, set()),
        "Modbus device": (ModbusDevice, set()),
        "OPC UA server": (OpcUaServer, set()),
        "serial line": (SerialLine, set()),
        "hole": (AddressRange, set()),
        "interlock": (Interlock, set()),
        "tag": (DeviceTag, set()),
        "Modbus tag": (Tag, common),
        "OPC UA tag": (OpcTag, common),
    }
    assert set(DEVICE_OPTION_TESTS) == {
        f"{group}.{name}"
        for group, (model, left_out) in groups.items()
        for name in model.model_fields
        if name not in left_out
    }
    for test in DEVICE_OPTION_TESTS.values():
        file, _, name = test.partition("::")
        text = (ROOT / file).read_text()
        assert re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), test


def test_each_option_of_alerts_has_a_test() -> None:
    """The same for the files of alerts; what all rules have stands there once."""
    common = {"name", "on", "severity", "labels", "recovery", "jobs"}
    groups: dict[str, type[BaseModel]] = {
        "alerts": alert_policy.Policy,
        "channel": alert_policy.Channel,
        "throttle": alert_policy.Throttle,
        "route": alert_policy.Route,
        "escalation": alert_policy.Escalation,
        "calendar": alert_policy.Calendar,
        "shift": alert_policy.Shift,
        "maintenance": alert_policy.Maintenance,
    }
    wanted = {f"{group}.{name}" for group, model in groups.items() for name in model.model_fields}
    for kind in get_args(get_args(alert_rules.Rule)[0]):
        (on,) = get_args(kind.model_fields["on"].annotation)
        wanted |= {f"on: {on}.{name}" for name in kind.model_fields if name not in common}
    assert set(ALERT_OPTION_TESTS) == wanted | {f"rule.{name}" for name in common}
    for test in ALERT_OPTION_TESTS.values():
        file, _, name = test.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / file).read_text(), re.MULTILINE), test


def test_each_option_of_reports_has_a_test() -> None:
    """The same for the files of users' own reports."""
    groups: dict[str, type[BaseModel]] = {
        "report": own_spec.OwnReport,
        "schedule": own_spec.ReportSchedule,
        "query": own_spec.Query,
        "column": own_spec.ShownColumn,
        "chart": own_spec.OwnChart,
    }
    wanted = {f"{group}.{name}" for group, model in groups.items() for name in model.model_fields}
    assert set(REPORT_OPTION_TESTS) == wanted
    for test in REPORT_OPTION_TESTS.values():
        file, _, name = test.partition("::")
        assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE), test
