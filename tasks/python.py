"""Steps that call functions of one's own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prefect import get_run_logger

from smartops.errors import FunctionFailed, UnknownOutcome
from smartops.jobs.python_calls import CHILD, check_allowed, error_of
from smartops.vocabulary import Effect
from tasks.step import current_record, step

_LONGEST_LINE = 2000
_LAST_WORDS_S = 1.0


@step(effect=Effect.UNSAFE, kind="python.call")
async def call_function(function: str, args: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Call a function in a process of its own, which ends with this step whatever it does.

    Returns its ``value``. Raises BadInput; the error of our own tree that it raised;
    FunctionFailed for any other.
    """
    check_allowed(function)
    record = current_record()
    record.touched = False
    with tempfile.TemporaryDirectory(prefix="smartops-call-") as folder:
        place = Path(folder) / "result.json"
        printed, prints = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                CHILD,
                str(place),
                stdin=asyncio.subprocess.PIPE,
                stdout=prints,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            os.close(printed)
            raise
        finally:
            os.close(prints)
        record.touched = True
        asked = json.dumps({"function": function, "args": dict(args or {})})
        talk = asyncio.create_task(_talk(process, asked, printed))
        try:
            status = await process.wait()
        finally:
            _end(process)
            await asyncio.shield(process.wait())
            await asyncio.shield(_hear_out(talk))
        return {"value": _result(function, place, status, record.effect)}


async def _talk(process: asyncio.subprocess.Process, asked: str, printed: int) -> None:
    """Tell the process what to call, and log what it prints."""
    assert process.stdin is not None  # noqa: S101 - for the type checker
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(printed, "rb", 0)
    )
    try:
        process.stdin.write(asked.encode())
        with suppress(BrokenPipeError, ConnectionResetError):
            await process.stdin.drain()
            process.stdin.close()
        logger = get_run_logger()
        while line := await _line(stream):
            logger.info("%s", line.decode("utf-8", "replace").rstrip()[:_LONGEST_LINE])
    finally:
        transport.close()


async def _hear_out(talk: asyncio.Task[None]) -> None:
    """Wait for the last that was printed, and not for programs that were left to go on."""
    await asyncio.wait([talk], timeout=_LAST_WORDS_S)
    talk.cancel()
    await asyncio.gather(talk, return_exceptions=True)


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readline()
    except ValueError:
        return b"(a line that is too long for the log)\n"


def _end(process: asyncio.subprocess.Process) -> None:
    """End the process with all that it has started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _result(function: str, place: Path, status: int, effect: Effect) -> Any:
    try:
        answer = json.loads(place.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        text = f"{function} ended its process (exit status {status})"
        if effect is Effect.UNSAFE:
            raise UnknownOutcome(f"{text}; what it did before is not known") from None
        raise FunctionFailed(text) from None
    if "error" not in answer:
        return answer["value"]
    raise error_of(function, answer)
