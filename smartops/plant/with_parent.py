"""Runs a program that the kernel kills when the process that has started it ends (Linux).

Used as a script: the parent's process id, then the program with its arguments.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the signal, and become the program."""
    parent, *command = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "the kernel does not watch the parent")
    if os.getppid() != int(parent):
        sys.exit("the parent has ended already")
    os.execv(command[0], command)  # noqa: S606 - our own command; the request outlives this call


if __name__ == "__main__":
    main()
