"""A function of one's own that starts a program and then blocks, as people's functions do."""

from __future__ import annotations

import subprocess
import time


def hold(seconds: float) -> None:
    """Block for so long, with a program beside it that nobody waits for."""
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    time.sleep(seconds)
