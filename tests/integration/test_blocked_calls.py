"""Calls that block their process: a thread sees it, tells the record, and ends the process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from smartops.audit.journal_reader import JournalReader, Record, journal_files
from tests.conftest import wait_for

# A process that takes itself for one that Prefect's engine has started for a run.
PROGRAM = """
import asyncio, importlib.machinery, re, subprocess, sys, time
from uuid6 import uuid7
from smartops.audit.recording import RunInfo, StepRecord
from smartops.vocabulary import Effect
from tasks import blocked_calls as watchdog

module, effect, way = sys.argv[1:]
sys.modules["__main__"].__spec__ = importlib.machinery.ModuleSpec(module, None)
watchdog.GRACE_S = 3.0

async def main():
    info = RunInfo(id=uuid7(), job="j", flow="j")
    record = StepRecord(
        info, step="hang", kind="k", effect=Effect(effect), attempt=1, inputs={}
    )
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    with watchdog.watched(record, 0.3):
        if way == "sleeps":
            time.sleep(20)
        elif way == "computes":
            re.match("(a+)+$", "a" * 40 + "b")  # no other thread gets a turn in this
        elif way == "answers":
            await asyncio.sleep(8)  # it is late, but its time limit is about to end it
    child.kill()
    print("went on", flush=True)

asyncio.run(main())
"""


def start(module: str, effect: str, way: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, module, effect, way],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ends(home: Path) -> list[Record]:
    """Return what was journalled of the ends of steps."""
    found: list[Record] = []
    for path in journal_files(home / "journal"):
        reader = JournalReader(path)
        found += [record for record in reader.after(0, 100) if record.type == "step.ended"]
        reader.close()
    return found


@pytest.mark.parametrize(("effect", "state"), [("unsafe", "unknown_outcome"), ("read", "failed")])
def test_a_blocked_process_is_ended(home: Path, effect: str, state: str) -> None:
    """With what it has started, and with the place on record at which it hung."""
    with start("prefect.engine", effect, "sleeps") as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert process.wait(60) == -signal.SIGKILL
        wait_for(lambda: not psutil.pid_exists(child), "the child's end")
    [end] = ends(home)
    body = json.loads(end.body)
    assert body["state"] == state
    assert "the call blocked its process, at <string>:" in body["error"]


def test_a_call_that_lets_no_thread_run(home: Path) -> None:
    """The interpreter's own timer ends it; who looks after the dead puts it on record."""
    with start("prefect.engine", "unsafe", "computes") as process:
        assert process.stdout is not None
        psutil.Process(int(process.stdout.readline())).kill()
        assert process.wait(60) == 1
        assert process.stderr is not None
        assert "Timeout" in process.stderr.read(), "where it hung is in the worker's log"


@pytest.mark.parametrize(
    ("module", "way"),
    [("prefect.engine", "answers"), ("pytest", "sleeps-not"), ("prefect.engine", "-")],
)
def test_what_answers_is_left_alone(home: Path, module: str, way: str) -> None:
    """And so is a program of somebody's own that runs a flow among other things."""
    with start(module, "unsafe", way) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert process.stdout.readline() == "went on\n"
        assert process.wait(60) == 0
    assert ends(home) == []
