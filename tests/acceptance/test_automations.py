"""Prefect's automations as files: applied again, changed, paused, changed by others, gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.acceptance.conftest import Cli
from tests.conftest import PREFECT_LEAVES_SOCKETS, ROOT

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
NAME = "check the line of an order"
SHIPPED = ROOT / "deployments/automations/check-line-of-order.yaml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A folder with the automation that ships; of the stack it is the only one."""
    folder = tmp_path / "automations"
    folder.mkdir()
    return Path(shutil.copy(SHIPPED, folder))


def changed(file: Path, **fields: Any) -> None:
    document = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**document, **fields}))


def applied(quick: Cli, *arguments: str) -> list[tuple[str, str]]:
    said = quick("automation", "apply", *arguments, "--json")
    assert said.returncode == 0, said.stderr
    return [(change["name"], change["action"]) for change in json.loads(said.stdout)]


def test_files_are_applied(in_stack: Any, quick: Cli, file: Path) -> None:
    """Once, again, changed, with a dry run first; and what others did in Prefect stays."""
    folder = str(file.parent)

    def there() -> dict[str, Any]:
        said = httpx.post(f"{in_stack.api_url}/automations/filter", json={}, timeout=30)
        [found] = [found for found in said.json() if found["name"] == NAME]
        return dict(found)

    def patch(**fields: Any) -> None:
        url = f"{in_stack.api_url}/automations/{there()['id']}"
        keep = {"name", "description", "enabled", "tags", "trigger", "actions"}
        whole = {key: value for key, value in there().items() if key in keep}
        httpx.put(url, json={**whole, **fields}, timeout=30).raise_for_status()

    assert applied(quick, folder, "--dry-run") == [(NAME, "created")]
    assert applied(quick, folder) == [(NAME, "created")]
    action = there()["actions"][0]
    assert action["parameters"] == {"params": {"line": "{{ event.payload.payload.line }}"}}
    assert applied(quick, folder) == [(NAME, "unchanged")]
    assert quick("automation", "diff", folder).returncode == 0

    changed(file, description="another one")
    differs = quick("automation", "diff", folder)
    assert (differs.returncode, "+description: another one" in differs.stdout) == (1, True)
    patch(enabled=False)
    assert applied(quick, folder) == [(NAME, "updated")]
    assert (there()["description"], there()["enabled"]) == ("another one", False)
    changed(file, enabled=True)
    assert applied(quick, folder) == [(NAME, "updated")]
    assert there()["enabled"] is True

    patch(description="by hand")
    [known] = json.loads(quick("automation", "list", "--json").stdout)
    assert (known["name"], known["changed"]) == (NAME, True)
    refused = quick("automation", "apply", folder)
    assert (refused.returncode, "was changed in Prefect" in refused.stderr) == (2, True)
    assert there()["description"] == "by hand"
    assert applied(quick, folder, "--force") == [(NAME, "updated")]
    assert there()["description"] == "another one"

    file.unlink()
    assert applied(quick, folder, "--prune", "--dry-run") == [(NAME, "deleted")]
    assert applied(quick, folder, "--prune") == [(NAME, "deleted")]
    assert json.loads(quick("automation", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ({"type": "run-deployment", "job": "gone"}, "actions.0: no job 'gone' is deployed"),
        (
            {"type": "run-deployment", "job": "line-check", "params": {"foo": 1}},
            "actions.0: job line-check has no parameter foo",
        ),
        (
            {"type": "pause-deployment", "deployment": "run-job/gone"},
            "actions.0: there is no deployment 'run-job/gone'",
        ),
        (
            {"type": "send-notification", "block": "slack-webhook/gone", "body": "x"},
            "actions.0: there is no block 'slack-webhook/gone'",
        ),
    ],
)
def test_what_is_not_there(quick: Cli, file: Path, action: dict[str, Any], said: str) -> None:
    """Is told with its place, and nothing is changed."""
    changed(file, actions=[action])
    refused = quick("automation", "apply", str(file))
    assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
    assert json.loads(quick("automation", "list", "--json").stdout) == []
