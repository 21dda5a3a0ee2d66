"""Calls a function in a process of its own, which has ended when the call has."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from smartops import redact
from smartops.durations import format_duration
from smartops.errors import BadInput, FunctionFailed
from smartops.jobs.python_calls import CHILD, error_of


def call(function: str, args: Mapping[str, Any], limit: timedelta) -> Any:
    """Return what a function gives, as JSON holds it; what it prints is lost.

    Raises BadInput for wrong arguments, or where it takes longer than ``limit``; the error of our
    own tree that it raised; FunctionFailed for any other.
    """
    with tempfile.TemporaryDirectory(prefix="smartops-report-") as folder:
        place = Path(folder) / "result.json"
        process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", CHILD, str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            asked = json.dumps({"function": function, "args": dict(args)})
            process.communicate(asked.encode(), timeout=limit.total_seconds())
        except subprocess.TimeoutExpired:
            raise BadInput(f"{function} took longer than {format_duration(limit)}") from None
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            process.stdin.close() if process.stdin else None
        return _value(function, place, process.returncode)


def _value(function: str, place: Path, status: int) -> Any:
    try:
        answer = json.loads(place.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        raise FunctionFailed(f"{function} ended its process (exit status {status})") from None
    if "error" in answer:
        raise error_of(function, {**answer, "error": redact.text(answer["error"])})
    return answer["value"]
