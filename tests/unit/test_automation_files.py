"""Files of automations that are wrong are refused, with their place and what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from services import automation_files
from smartops.errors import BadInput
from tests.conftest import ROOT

SHIPPED = ROOT / "deployments/automations/check-line-of-order.yaml"
_RUN = {"type": "run-deployment", "job": "a"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"triger": {}}, "triger: Prefect knows no such field"),
        ({"trigger": {"expected": ["a"]}}, "trigger.expected: Prefect knows no such field"),
        ({"trigger": {"within": "soon"}}, "trigger.event.within: "),
        ({"actions": [{"type": "run"}]}, "actions.0.type: is one of call-webhook, "),
        ({"actions": [{**_RUN, "wait": 1}]}, "actions.0.wait: Prefect knows no such field"),
        ({"actions": [{**_RUN, "deployment": "f/d"}]}, "one name or one id is enough"),
        ({"actions": [{**_RUN, "parameters": {}}]}, "a job has params"),
        ({"actions": [{"type": "do-nothing", "params": {}}]}, "params go with a job"),
        ({"actions": {}}, "actions: is no list"),
        ({"actions": ["stop"]}, "actions.0: is no mapping with a type"),
        ({"tags": ["a"]}, "tags: is not for you to say"),
        ({"name": None}, "name: "),
    ],
)
def test_a_file_that_is_wrong(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    """One line: the file, the place, what is wrong; Prefect itself passes over most of it."""
    file = tmp_path / "a.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(SHIPPED.read_text()), **fields}))
    with pytest.raises(BadInput) as error:
        automation_files.load(file)
    assert str(file) in str(error.value)
    assert said in str(error.value)
