"""Existing Selenium scripts, run as they are: by pytest or plainly, in a process of their own."""

from __future__ import annotations

import asyncio
import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from smartops import errors
from smartops.settings import get_settings

Runner = Literal["pytest", "python"]
_END_S, _LONGEST_LINE, _MOST_LINES, _MOST_TESTS = 20.0, 2000, 20_000, 1000
_OWN = ("SMARTOPS_", "PREFECT_")
_NO_TESTS = {2: "cannot be collected", 4: "was called wrongly", 5: "has no tests"}
REPORT, OUTPUT = "report.xml", "output.txt"


@dataclass(frozen=True)
class Test:
    """One test of a script."""

    __test__ = False
    name: str
    state: str
    """``passed``, ``failed``, ``error`` or ``skipped``."""
    duration_s: float
    message: str


@dataclass(frozen=True)
class Script:
    """What is run, and how."""

    path: Path
    runner: Runner
    options: tuple[str, ...]
    """Further arguments: of pytest, or of the program."""
    variables: Mapping[str, str]
    """What it is told of the site, as environment variables."""


def find_script(name: str) -> Path:
    """Return a script's path. Raises BadInput for one that is not below the folder of scripts."""
    folder = get_settings().selenium_folder.resolve()
    path = (folder / name).resolve()
    if not path.is_relative_to(folder) or not path.exists():
        raise errors.BadInput(
            f"there is no script {name!r} in {folder}",
            hint="Put it there, or name its folder in SMARTOPS_SELENIUM_SCRIPTS.",
        )
    return path


async def check_python(runner: Runner) -> None:
    """Raise MissingProgram where the Python of scripts has no Selenium, or no pytest."""
    needed = ["selenium", *(["pytest"] if runner == "pytest" else [])]
    process = await asyncio.create_subprocess_exec(
        _python(),
        "-c",
        "import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, sys.argv[1:])))",
        *needed,
        stderr=asyncio.subprocess.DEVNULL,
    )
    if await process.wait():
        raise errors.MissingProgram(
            f"{_python()} has no {' or no '.join(needed)}",
            hint="Install them: pip install 'smartops[selenium]'. Another Python is named by "
            "SMARTOPS_SELENIUM_PYTHON.",
        )


def _python() -> str:
    return str(get_settings().selenium_python or sys.executable)


async def run(script: Script, folder: Path, log: Callable[[str], None]) -> int:
    """Run a script; its report, output and files come into the folder. Return its exit status.

    Whatever it has started has ended afterwards, also when this is cancelled or killed.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    child = Path(__file__).with_name("script_child.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(child),
        *_command(script, folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=script.path if script.path.is_dir() else script.path.parent,
        env=_environment(script, folder),
        limit=1_000_000,
    )
    reading = asyncio.create_task(_read(process, folder / OUTPUT, log))
    try:
        return await process.wait()
    finally:
        await asyncio.shield(_end(process))
        await asyncio.shield(reading)


def _command(script: Script, folder: Path) -> Sequence[str]:
    if script.runner == "python":
        return (_python(), str(script.path), *script.options)
    report = f"--junitxml={folder / REPORT}"
    quiet = ("-p", "no:cacheprovider", "-o", "junit_family=xunit2")
    return (_python(), "-m", "pytest", str(script.path), report, *quiet, *script.options)


def _environment(script: Script, folder: Path) -> dict[str, str]:
    """Return the variables of the script: not our own, in which secrets may stand."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    about = {"SMARTOPS_EVIDENCE": str(folder), "SE_AVOID_STATS": "true", **script.variables}
    return {**kept, "PYTHONUNBUFFERED": "1", **about}


async def _end(process: asyncio.subprocess.Process) -> None:
    """Let the process end with all that it has started; kill what does not."""
    if process.stdin is not None:
        process.stdin.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_S):
            await process.wait()
            return
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


async def _read(
    process: asyncio.subprocess.Process, path: Path, log: Callable[[str], None]
) -> None:
    if process.stdout is None:
        raise TypeError("its output is not read")
    with path.open("w", encoding="utf-8") as kept:
        for _ in range(_MOST_LINES):
            try:
                line = await process.stdout.readline()
            except ValueError:
                line = b"(a line that is too long)\n"
            if not line:
                return
            text = line.decode("utf-8", "replace").rstrip()[:_LONGEST_LINE]
            kept.write(f"{text}\n")
            log(text)
        kept.write("(and more)\n")
        while await process.stdout.read(100_000):
            pass


def read_report(folder: Path) -> list[Test]:
    """Return the tests of the report, none where there is no readable one."""
    try:
        root = ET.parse(folder / REPORT).getroot()  # noqa: S314 - pytest has made it just now
    except (FileNotFoundError, ET.ParseError):
        return []
    return [_test(case) for case in root.iter("testcase")][:_MOST_TESTS]


def _test(case: ET.Element) -> Test:
    state, message = "passed", ""
    for found, called in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
        if (node := case.find(found)) is not None:
            state, message = called, _first_line(node.get("message") or "")
    name = f"{case.get('classname', '')}::{case.get('name', '')}".removeprefix("::")
    return Test(name, state, float(case.get("time", 0.0)), message[:_LONGEST_LINE])


def _first_line(text: str) -> str:
    """Return the first line: behind it pytest shows values, such as all variables."""
    return text.strip().partition("\n")[0]


def output(tests: Sequence[Test], status: int) -> dict[str, Any]:
    """Return what the step gives: how many of each state, and the tests."""
    counts = {state: sum(test.state == state for test in tests) for state in ("passed", "failed")}
    counts["errors"] = sum(test.state == "error" for test in tests)
    counts["skipped"] = sum(test.state == "skipped" for test in tests)
    return {"status": status, **counts, "tests": [asdict(test) for test in tests]}


def problem(script: Script, tests: Sequence[Test], status: int) -> errors.SmartOpsError | None:
    """Return what the end of a script means; None where all is well."""
    name = script.path.name
    if status == 0:
        return None
    bad = [test for test in tests if test.state in {"failed", "error"}]
    if script.runner == "pytest" and status in _NO_TESTS:
        more = f": {bad[0].message}" if bad else ""
        return errors.BadInput(f"{name} {_NO_TESTS[status]}{more}")
    if bad:
        first = f"{bad[0].name}: {bad[0].message}"
        return errors.ExpectationFailed(f"{name}: {len(bad)} of {len(tests)} tests failed: {first}")
    return errors.ExpectationFailed(f"{name} ended with exit status {status}")
