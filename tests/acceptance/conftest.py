"""Ways to use the running system as its users do."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.runs import RunDetail, Wanted, get_run, list_runs
from services.stack import Stack
from smartops.audit import shipping
from smartops.audit.store import Store
from smartops.errors import SmartOpsError, StoreUnavailable
from smartops.jobs import loader
from smartops.settings import get_settings
from tests.conftest import ROOT, wait_for

Cli = Callable[..., subprocess.CompletedProcess[str]]
Run = Callable[..., Any]


@pytest.fixture
def cli(stack: Stack, tmp_path: Path) -> Cli:
    """The command, as a user of the running stack calls it."""

    def call(
        *arguments: str, env: dict[str, str] | None = None, limit_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        own = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        own["SMARTOPS_HOME"] = str(stack.settings.home)
        return subprocess.run(
            [sys.executable, "-m", "smartops", *arguments],
            env={**own, **(env or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    return call


@pytest.fixture
def quick(
    in_stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    """The command within this process: it need not load everything again for each call."""
    from smartops.cli.app import main

    def call(
        *arguments: str, env: dict[str, str] | None = None, limit_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        saved = dict(os.environ)
        own = {**saved, "SMARTOPS_HOME": str(in_stack.settings.home), **(env or {})}
        own.pop("PREFECT_API_URL", None)
        try:
            os.environ.clear()
            os.environ.update(own)
            with monkeypatch.context() as patch, contextlib.chdir(tmp_path):
                patch.setattr(sys, "argv", ["smartops", *arguments])
                capsys.readouterr()
                code = main()
                printed = capsys.readouterr()
        finally:
            os.environ.clear()
            os.environ.update(saved)
            get_settings.cache_clear()
        return subprocess.CompletedProcess(arguments, code, printed.out, printed.err)

    return call


class PlantControl:
    """The stack's plant, over its control addresses."""

    def __init__(self, url: str, home: Path) -> None:
        self._url = url
        self._wires = home / "wires"

    def _call(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"{self._url}/_plant/{path}", method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def log(self, what: str) -> list[dict[str, Any]]:
        """Return what was done to the plant, of one sort."""
        found: list[dict[str, Any]] = self._call(f"log?what={what}")
        return found

    def switch_on(self, fault: str) -> None:
        """Switch a fault on."""
        self._call(f"faults/{fault}", "PUT")

    def all_well(self) -> None:
        """Switch every fault off, and forget who did not answer."""
        for fault in self._call("faults")["on"]:
            self._call(f"faults/{fault}", "DELETE")
        for note in self._wires.glob("*.quarantine"):
            note.unlink(missing_ok=True)


@pytest.fixture
def plant_control(stack: Stack) -> Iterator[PlantControl]:
    """The stack's plant; every fault is off afterwards."""
    assert stack.plant is not None
    control = PlantControl(stack.plant.orders_url, stack.settings.home)
    yield control
    control.all_well()


def fenced(file: str, language: str, containing: str = "") -> str:
    """Return the first code block of a language in a page that contains a text."""
    from markdown_it import MarkdownIt

    for token in MarkdownIt().parse((ROOT / file).read_text("utf-8")):
        words = token.info.split()
        if token.type == "fence" and words[:1] == [language] and containing in token.content:
            return token.content
    raise AssertionError(f"{file} has no {language} block with {containing!r}")


def ship(store: Store, stack: Stack) -> None:
    """Ship what is journalled; beside a busy recorder the embedded store may be locked a while."""

    def done() -> bool:
        try:
            shipping.ship_all(store, stack.settings.journal_dir)
        except StoreUnavailable:
            return False
        return True

    wait_for(done, "the records in the store", 60)


@pytest.fixture
def run(in_stack: Stack) -> Run:
    """Run a job text; return its record."""
    from flows.run_job import run_job

    async def call(text: str, **params: Any) -> RunDetail:
        job = loader.loads(text)
        with contextlib.suppress(SmartOpsError):
            await run_job(job, params)
        store = Store(in_stack.settings.store_url)
        try:
            ship(store, in_stack)  # the run itself has little time for that
            newest = list_runs(store, Wanted(job=job.name), limit=1)[0]
            return get_run(store, str(newest.run_id))
        finally:
            store.close()

    return call


def states(detail: RunDetail) -> dict[str, str]:
    return {step.id: step.state for step in detail.steps}
