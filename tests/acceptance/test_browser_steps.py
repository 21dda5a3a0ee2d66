"""Browser steps as jobs say them: evidence on record, in Prefect, in a bundle; no secret in it."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest

from blocks import BrowserProfile
from reports.evidence import evidence_of
from services.stack import Stack
from smartops.audit.store import Store
from smartops.plant.zoo import PIN
from tests.acceptance.conftest import Cli, Run
from tests.conftest import PREFECT_LEAVES_SOCKETS, needs

pytestmark = [pytest.mark.stack, pytest.mark.browser, PREFECT_LEAVES_SOCKETS]
SAY_IT = """
      - {do: goto, path: /zoo/enter}
      - {do: fill, target: {label: Spoken PIN}, credential: pin}
      - {do: click, target: {role: button, name: Say it aloud}}
      - {do: extract, target: {test_id: pin}, output: said}
      - {do: screenshot, name: shown}
"""


async def save(stack: Stack, name: str, **fields: Any) -> None:
    """Save a profile of the stack's HMI."""
    assert stack.plant is not None
    given = {"base_url": stack.plant.hmi_url, "timeout": "30s", "secrets": {"pin": PIN}, **fields}
    saving: Any = BrowserProfile.model_validate(given).save(name, overwrite=True)
    await saving


def names_of(stack: Stack, run_id: Any, step: str) -> list[str]:
    """Return the evidence of a step that is on record."""
    store = Store(stack.settings.store_url)
    try:
        return [kept.name for kept in evidence_of(store, run_id) if kept.step == step]
    finally:
        store.close()


def artifacts(stack: Stack, key: str) -> list[dict[str, Any]]:
    """Return what Prefect has under a key."""
    body = json.dumps({"artifacts": {"key": {"any_": [key]}}}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{stack.api_url}/artifacts/filter", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: list[dict[str, Any]] = json.load(answer)
    return found


async def test_each_option_of_a_browser_step(
    run: Run, in_stack: Stack, quick: Cli, tmp_path: Path
) -> None:
    """What is kept, and when; a failed step that says a secret aloud lets it out nowhere."""
    await save(in_stack, "zoo")
    detail = await run(
        f"""
name: browser-options
steps:
  - id: well
    kind: browser.run
    profile: zoo
    effect: read
    evidence: [console]
    keep_evidence: always
    actions: [{{do: goto, path: /zoo/}}]
  - id: quiet
    kind: browser.run
    profile: zoo
    effect: read
    needs: [well]
    actions: [{{do: goto, path: /zoo/}}, {{do: screenshot, name: one}}]
  - id: canary
    kind: browser.run
    profile: zoo
    needs: [quiet]
    actions:{SAY_IT}
      - {{do: wait_for, target: {{text: never}}, within: 300ms}}
"""
    )
    states = {step.id: (step.state, step.error_class) for step in detail.steps}
    assert states["well"] == states["quiet"] == ("completed", None)
    assert states["canary"] == ("unknown_outcome", "UnknownOutcome")
    run_id = detail.run.run_id
    assert names_of(in_stack, run_id, "well") == ["console.txt"]
    assert names_of(in_stack, run_id, "quiet") == ["one.png"]
    kept = ["shown.png", "failure.png", "trace.zip", "network.har", "console.txt"]
    assert names_of(in_stack, run_id, "canary") == kept
    (shown, *_) = artifacts(in_stack, "evidence-canary")
    assert "| trace.zip | application/zip |" in shown["data"]
    bundle = tmp_path / "bundle.zip"
    asked = ("run", "evidence", str(run_id), "-o", str(bundle), "--json")
    done = await asyncio.to_thread(quick, *asked)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["files"].values()) == {"whole"}
    with zipfile.ZipFile(bundle) as files:
        assert sum(name.startswith("evidence/") for name in files.namelist()) == 7
        assert json.loads(files.read("run.json"))["run_id"] == str(run_id)
    await asyncio.to_thread(nowhere, in_stack.settings.home, bundle)


def nowhere(home: Path, *more: Path) -> None:
    """Look for the canary in each file, in a process of its own: it would lose its locks here."""
    look = """
import io, json, sys, zipfile
from urllib.parse import quote, quote_plus
pin, *files = sys.argv[1:]
texts = {pin, quote(pin, safe=""), quote_plus(pin), json.dumps(pin)[1:-1]}
texts |= {json.dumps(text)[1:-1] for text in texts}
forms = [text.encode() for text in texts]
def look(name, content):
    assert not any(form in content for form in forms), name
    if name.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for part in archive.namelist():
                look(f"{name}: {part}", archive.read(part))
for name in files:
    try:
        with open(name, "rb") as file:
            look(name, file.read())
    except FileNotFoundError:
        pass
"""
    files = [path for path in home.rglob("*") if path.is_file()]
    assert any(path.name in {"trace.zip", "report.xml"} for path in files)
    command = [sys.executable, "-c", look, PIN, *map(str, [*files, *more])]
    subprocess.run(command, check=True)


async def test_a_bundle_of_what_was_changed(
    run: Run, in_stack: Stack, quick: Cli, tmp_path: Path
) -> None:
    """What is missing, or another than it was, is told; the file is written all the same."""
    await save(in_stack, "zoo")
    detail = await run(
        """
name: bundle
steps:
  - id: a
    kind: browser.run
    profile: zoo
    evidence: []
    actions: [{do: goto, path: /zoo/}, {do: screenshot, name: one}, {do: screenshot, name: two}]
"""
    )
    one, two = (Path(shot["path"]) for shot in detail.steps[0].output["screenshots"])
    one.write_bytes(b"another picture")
    two.unlink()
    bundle = tmp_path / "bundle.zip"
    asked = ("run", "evidence", str(detail.run.run_id), "-o", str(bundle))
    done = await asyncio.to_thread(quick, *asked)
    assert done.returncode == 1
    printed = " ".join(done.stdout.split())
    assert "one.png is changed" in printed
    assert "two.png is missing" in printed
    assert zipfile.is_zipfile(bundle)
    again = await asyncio.to_thread(quick, *asked)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)


SCRIPT = """
import os, sys
from pathlib import Path
import pytest
@pytest.mark.smoke
def test_login():
    print("the pin is", os.environ["SMARTOPS_SECRET_PIN"])
    Path(os.environ["SMARTOPS_EVIDENCE"], "seen.html").write_text(os.environ["SMARTOPS_BASE_URL"])
def test_other():
    assert os.environ.get("SMARTOPS_SECRET_PIN") is None, "told"
if __name__ == "__main__":
    print(sys.argv[1:])
"""


async def test_each_option_of_a_selenium_step(run: Run, in_stack: Stack) -> None:
    """Which script, which of its tests, what it is told; its report and its files are kept."""
    needs(shutil.which("chromedriver") is not None, "chromium-driver")
    await save(in_stack, "zoo")
    scripts = in_stack.settings.home / "selenium"
    await asyncio.to_thread(scripts.mkdir, exist_ok=True)
    (scripts / "orders.py").write_text(SCRIPT)
    (scripts / "pytest.ini").write_text("[pytest]\nmarkers = smoke\n")
    script = "kind: browser.selenium, script: orders.py, on_failure: continue"
    detail = await run(
        f"""
name: selenium-options
steps:
  - {{id: one, {script}, profile: zoo, select: login}}
  - {{id: marked, {script}, profile: zoo, marks: smoke, needs: [one]}}
  - {{id: bad, {script}, profile: zoo, effect: read, needs: [marked]}}
  - {{id: plain, {script}, runner: python, args: [a, b], needs: [bad]}}
  - {{id: doubt, {script}, profile: zoo, needs: [plain]}}
"""
    )
    found = {step.id: step for step in detail.steps}
    for name in ("one", "marked"):
        assert found[name].state == "completed", found[name].error
        assert [test["name"] for test in found[name].output["tests"]] == ["orders::test_login"]
    assert found["bad"].error_class == "ExpectationFailed"
    assert "1 of 2 tests failed: orders::test_other: AssertionError: told" in (
        found["bad"].error or ""
    )
    assert found["plain"].output["status"] == 0
    assert found["doubt"].state == "unknown_outcome"
    run_id = detail.run.run_id
    assert names_of(in_stack, run_id, "one") == ["output.txt", "report.xml", "seen.html"]
    assert names_of(in_stack, run_id, "plain") == ["output.txt"]
    await asyncio.to_thread(nowhere, in_stack.settings.home)
