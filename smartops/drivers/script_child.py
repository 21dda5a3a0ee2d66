"""Runs a program, and ends all that it has started when it ends, or when its own parent does.

Used as a script: the program with its arguments. Its standard input is what ties it to its parent:
it is closed when the parent wants the end, and by the kernel when the parent is killed.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

_PR_SET_CHILD_SUBREAPER = 36
_ENDED = 137
_LONGEST_S, _LOOK_S = 10.0, 0.02


def main() -> None:
    """Run the program; exit as it does."""
    # Whatever loses its parent below this process becomes its child, and is found.
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)  # noqa: S603 - as asked for
    threading.Thread(target=_until_parent_ends, daemon=True).start()
    status = process.wait()
    end_children()
    sys.exit(status if status >= 0 else 128 - status)


def _until_parent_ends() -> None:
    while os.read(0, 1000):
        pass
    end_children()
    os._exit(_ENDED)


def end_children() -> None:
    """Kill all that lives below this process."""
    deadline = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline:
        living = [p for p in psutil.Process().children(recursive=True) if _lives(p)]
        if not living:
            return
        end(living)
        time.sleep(_LOOK_S)


def end(processes: Iterable[psutil.Process]) -> None:
    """Kill processes; one that has gone meanwhile, as its own parent has ended it, is no error."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    main()
