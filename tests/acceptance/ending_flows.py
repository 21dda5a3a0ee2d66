"""Flows of a user's own, for the tests of how runs and workers end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from prefect import flow


@flow(name="leaves-a-program", persist_result=False)
def leaves_a_program() -> None:
    """Start a program in a session of its own, and be killed."""
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    os.kill(os.getpid(), signal.SIGKILL)


@flow(name="burns-cpu", persist_result=False)
def burns_cpu() -> None:
    """Compute for ever."""
    while True:
        pass


@flow(name="takes-a-while", persist_result=False)
def takes_a_while(path: str, seconds: float) -> None:
    """Say in a file that it begins, wait, and say that it has ended."""
    _say(path, "begin")
    time.sleep(seconds)
    _say(path, "end")


def _say(path: str, what: str) -> None:
    with Path(path).open("a", encoding="ascii") as file:
        file.write(f"{what}\n")
