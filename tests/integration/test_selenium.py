"""Existing Selenium scripts: run as they are, reported, and gone with all they have started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from smartops import errors
from smartops.drivers import script_child, selenium_script
from smartops.drivers.selenium_script import Runner, Script
from smartops.plant import Plant
from smartops.settings import get_settings
from tests.conftest import needs, wait_for

SCRIPT = """
import os, shutil
from pathlib import Path
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

@pytest.fixture
def panel():
    options = webdriver.ChromeOptions()
    options.binary_location = os.environ["SMARTOPS_BROWSER"]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.get(os.environ["SMARTOPS_BASE_URL"] + "/zoo/")
    yield driver
    driver.save_screenshot(str(Path(os.environ["SMARTOPS_EVIDENCE"]) / "panel.png"))
    driver.quit()

def test_heading(panel):
    assert panel.find_element(By.TAG_NAME, "h1").text == "Page zoo"
"""
PLAIN = """
import pytest
def test_good(): print("all is well")
def test_bad(): assert 1 == 2
@pytest.mark.skip(reason="not today")
def test_later(): pass
@pytest.mark.slow
def test_slow_one(): pass
"""
STARTS_OTHERS = """
import os, subprocess, sys, time
def test_hangs():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    print("READY", flush=True)
    time.sleep(600)
"""
WORKER = """
import asyncio, sys
from pathlib import Path
from smartops.drivers.selenium_script import Script, run
script = Script(Path(sys.argv[1]), "pytest", ("-s",), {})
asyncio.run(run(script, Path(sys.argv[2]), lambda line: print(line, flush=True)))
"""


@pytest.fixture
def scripts(home: Path) -> Path:
    """The folder of scripts."""
    folder = home / "selenium"
    folder.mkdir(parents=True)
    (folder / "plain.py").write_text(PLAIN)
    (folder / "hangs.py").write_text(STARTS_OTHERS)
    return folder


async def run(
    name: str, folder: Path, runner: Runner = "pytest", *options: str, **variables: str
) -> tuple[int, list[str]]:
    lines: list[str] = []
    script = Script(selenium_script.find_script(name), runner, options, variables)
    return await selenium_script.run(script, folder, lines.append), lines


@pytest.mark.browser
async def test_a_selenium_script(plant: Plant, chromium: Path, scripts: Path) -> None:
    """With Debian's driver and the plant's page; its report and its picture are kept."""
    needs(
        shutil.which("chromedriver") is not None, "chromedriver (apt-get install chromium-driver)"
    )
    (scripts / "panel.py").write_text(SCRIPT)
    folder = scripts.parent / "kept"
    told = {"SMARTOPS_BROWSER": str(chromium), "SMARTOPS_BASE_URL": plant.addresses.hmi_url}
    await selenium_script.check_python("pytest")
    status, lines = await run("panel.py", folder, "pytest", **told)
    assert status == 0, lines
    (test,) = selenium_script.read_report(folder)
    assert (test.name, test.state) == ("panel::test_heading", "passed")
    assert {path.name for path in folder.iterdir()} == {"panel.png", "report.xml", "output.txt"}
    assert mine("SMARTOPS_EVIDENCE", str(folder)) == []


def mine(name: str, value: str) -> list[int]:
    """Return the processes that have a variable."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(name) == value:
                found.append(process.pid)
    return found


async def test_what_a_report_says(scripts: Path) -> None:
    """How each test went; what failed is an error that names the first."""
    folder = scripts.parent / "kept"
    status, lines = await run("plain.py", folder)
    tests = selenium_script.read_report(folder)
    states = {test.name: test.state for test in tests}
    assert states == {
        "plain::test_good": "passed",
        "plain::test_bad": "failed",
        "plain::test_later": "skipped",
        "plain::test_slow_one": "passed",
    }
    said = selenium_script.output(tests, status)
    assert [said[name] for name in ("passed", "failed", "errors", "skipped")] == [2, 1, 0, 1]
    assert "all is well" in (folder / "output.txt").read_text() or any(lines)
    script = Script(scripts / "plain.py", "pytest", (), {})
    problem = selenium_script.problem(script, tests, status)
    assert isinstance(problem, errors.ExpectationFailed)
    assert "1 of 4 tests failed: plain::test_bad: assert 1 == 2" in str(problem)
    assert selenium_script.problem(script, tests, 0) is None


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("import nothing_like_it", (), "cannot be collected"),
        (PLAIN, ("-k", "nothing_like_it"), "has no tests"),
        (PLAIN, ("--nonsense",), "was called wrongly"),
    ],
)
async def test_scripts_that_do_not_run(
    scripts: Path, text: str, options: tuple[str, ...], said: str
) -> None:
    """What is wrong with the job, and not with the site, is bad input."""
    (scripts / "odd.py").write_text(text)
    folder = scripts.parent / "kept"
    status, _ = await run("odd.py", folder, "pytest", *options)
    script = Script(scripts / "odd.py", "pytest", (), {})
    problem = selenium_script.problem(script, selenium_script.read_report(folder), status)
    assert isinstance(problem, errors.BadInput)
    assert said in str(problem)


async def test_a_plain_program(scripts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arguments, its exit status, what it is told; and nothing of our own settings."""
    (scripts / "program.py").write_text(
        "import os, sys; print(sys.argv[1:], sorted(n for n in os.environ if 'SMARTOPS' in n));"
        "sys.exit(int(sys.argv[1]))"
    )
    monkeypatch.setenv("SMARTOPS_DATABASE_URL", "mysql://user:secret@host/db")
    folder = scripts.parent / "kept"
    status, lines = await run("program.py", folder, "python", "3", "b", SMARTOPS_BASE_URL="x")
    assert (status, lines) == (3, ["['3', 'b'] ['SMARTOPS_BASE_URL', 'SMARTOPS_EVIDENCE']"])
    problem = selenium_script.problem(Script(Path("p.py"), "python", (), {}), [], status)
    assert "ended with exit status 3" in str(problem)


async def test_only_scripts_of_the_folder(
    scripts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job cannot run what lies elsewhere; the folder is a setting."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "evil.py").write_text("")
    (scripts / "link.py").symlink_to(outside / "evil.py")
    for name in ("../../outside/evil.py", str(outside / "evil.py"), "link.py", "missing.py"):
        with pytest.raises(errors.BadInput, match="there is no script"):
            selenium_script.find_script(name)
    monkeypatch.setenv("SMARTOPS_SELENIUM_SCRIPTS", str(outside))
    get_settings.cache_clear()
    assert selenium_script.find_script("evil.py") == (outside / "evil.py").resolve()


async def test_the_extra_is_missing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python without Selenium is told of, with what to install."""
    bare = home / "bare"
    bare.parent.mkdir(parents=True, exist_ok=True)
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    bare.chmod(0o755)
    monkeypatch.setenv("SMARTOPS_SELENIUM_PYTHON", str(bare))
    get_settings.cache_clear()
    with pytest.raises(errors.MissingProgram) as missing:
        await selenium_script.check_python("python")
    assert "pip install 'smartops[selenium]'" in missing.value.one_line


async def test_a_cancelled_script_leaves_nothing(scripts: Path) -> None:
    """Also what has left its process group."""
    folder = scripts.parent / "kept"
    ready = asyncio.Event()
    script = Script(scripts / "hangs.py", "pytest", ("-s",), {})

    def heard(line: str) -> None:
        if "READY" in line:
            ready.set()

    running = asyncio.create_task(selenium_script.run(script, folder, heard))
    await asyncio.wait_for(ready.wait(), 60)
    assert len(mine("SMARTOPS_EVIDENCE", str(folder))) >= 2
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert mine("SMARTOPS_EVIDENCE", str(folder)) == []


def test_a_program_that_has_gone_meanwhile_is_no_error() -> None:
    """The others are ended all the same, and the script's own exit status counts."""
    with subprocess.Popen(["true"]) as gone, subprocess.Popen(["sleep", "600"]) as left:
        known = [psutil.Process(gone.pid), psutil.Process(left.pid)]
        gone.wait()
        script_child.end(known)
        assert left.wait(30) == -signal.SIGKILL


def test_a_killed_worker_leaves_no_script(scripts: Path) -> None:
    """Kill -9 of the process of the run."""
    folder = scripts.parent / "kept"
    arguments = [sys.executable, "-c", WORKER, str(scripts / "hangs.py"), str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert any("READY" in line for line in iter(worker.stdout.readline, ""))
        os.kill(worker.pid, signal.SIGKILL)
    wait_for(lambda: not mine("SMARTOPS_EVIDENCE", str(folder)), "the script's end")
