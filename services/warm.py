"""The worker's side of the zygote: it starts and renews it, orders children, and waits for them."""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from services.zygote import BIGGEST_ANSWER, Order
from smartops.errors import SmartOpsError

logger = logging.getLogger(__name__)
START_LIMIT_S = 120.0
_LEAVE_S = 5.0
_FIRST_REST_S, _LONGEST_REST_S = 2.0, 60.0
_PR_SET_CHILD_SUBREAPER = 36


class NotWarm(SmartOpsError):
    """There is no zygote to fork from: the run has to be started the cold way."""


class Forked:
    """A child that was forked for a run; it has what Prefect asks of a process."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """The exit status; negative for the signal that ended it, as in ``subprocess``."""
        self.cpu_s = 0.0
        """How much CPU time it had used when it ended, in seconds."""
        self._fd = os.pidfd_open(pid)

    async def wait(self) -> int:
        """Return its exit status once it has ended; nothing polls for it."""
        if self.returncode is None:
            await _exit_of(os.dup(self._fd))
            self.reap()
        return self.returncode or 0

    def reap(self) -> None:
        """Wait for its end, and note how it came."""
        _, status, used = os.wait4(self.pid, 0)  # its id is its own until it is waited for
        os.close(self._fd)
        self.returncode = os.waitstatus_to_exitcode(status)
        self.cpu_s = used.ru_utime + used.ru_stime


async def _exit_of(pidfd: int) -> None:
    """Wait until the process behind a descriptor has ended, and close that."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


@dataclass
class _Zygote:
    """A running zygote."""

    process: subprocess.Popen[bytes]
    wire: socket.socket

    async def end(self) -> None:
        """Let it go: it ends by itself, and its children are not its own."""
        self.wire.close()
        try:
            async with asyncio.timeout(_LEAVE_S):
                await _exit_of(os.pidfd_open(self.process.pid))
        except TimeoutError:
            self.process.kill()
        self.process.wait()


class Nursery:
    """Gives children for runs. One for a worker, used from its event loop only."""

    def __init__(self, preload: Sequence[str], environment: Mapping[str, str]) -> None:
        self._preload = tuple(preload)
        self._environment = dict(environment)
        self._zygote: _Zygote | None = None
        self._turn = asyncio.Lock()
        self._beside: set[asyncio.Task[None]] = set()
        self._rest_s = _FIRST_REST_S
        self._not_before = 0.0
        self._closed = False
        self.own_pids: set[int] = set()
        """The zygote's process id, and those of former ones that have not ended yet."""

    @property
    def pid(self) -> int | None:
        """The zygote's process id, None while there is none."""
        return self._zygote.process.pid if self._zygote else None

    async def warm_up(self) -> None:
        """Start the zygote, unless there is one. Raises NotWarm where it does not come up."""
        async with self._turn:
            await self._ready()

    async def fork(self, order: Order) -> Forked:
        """Return a child that carries out the order.

        Code that has changed on disk is loaded first, into a new zygote. Raises NotWarm.
        """
        making = asyncio.create_task(self._fork(order))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            making.add_done_callback(_not_wanted)  # its answer is heard out all the same
            raise

    async def _fork(self, order: Order) -> Forked:
        async with self._turn:
            for _ in range(3):
                zygote = await self._ready()
                try:
                    answer = await _ask(zygote, order)
                except OSError as error:
                    self._lose(f"it has gone ({error})")
                    continue
                if "pid" in answer:
                    return Forked(int(answer["pid"]))
                if "stale" not in answer:
                    raise NotWarm(str(answer.get("error", "the zygote gave no child")))
                logger.info("%s has changed: the code is loaded anew", answer["stale"])
                self._lose("", alarm=False)
        raise NotWarm("no zygote lives long enough to give a child")

    async def close(self) -> None:
        """End the zygote; children go on."""
        self._closed = True
        self._lose("", alarm=False)
        await asyncio.gather(*self._beside, return_exceptions=True)

    async def _ready(self) -> _Zygote:
        if self._zygote is not None:
            return self._zygote
        if time.monotonic() < self._not_before:
            raise NotWarm("the zygote could not be started a moment ago")
        try:
            self._zygote = await _start(self._preload, self._environment)
        except SmartOpsError as error:
            self._not_before = time.monotonic() + self._rest_s
            self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)
            logger.error("%s", error.one_line)  # noqa: TRY400 - the line says it all
            raise
        self._rest_s = _FIRST_REST_S
        self.own_pids.add(self._zygote.process.pid)
        self._do(self._replace_when_dead(self._zygote))
        return self._zygote

    async def _replace_when_dead(self, zygote: _Zygote) -> None:
        """Have the next one ready before the next run needs it."""
        await _exit_of(os.pidfd_open(zygote.process.pid))
        if self._zygote is zygote and not self._closed:
            async with self._turn:
                if self._zygote is zygote:
                    self._lose("it has ended")
            with suppress(NotWarm):  # it is on record, and tried again with the next run
                await self.warm_up()

    def _do(self, beside: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(beside)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    def _lose(self, why: str, *, alarm: bool = True) -> None:
        if self._zygote is None:
            return
        if alarm:
            logger.warning("the zygote %s is replaced: %s", self.pid, why)
        self._do(self._end(self._zygote))
        self._zygote = None

    async def _end(self, zygote: _Zygote) -> None:
        await zygote.end()
        self.own_pids.discard(zygote.process.pid)


def _not_wanted(making: asyncio.Task[Forked]) -> None:
    if making.cancelled() or making.exception() is not None:
        return
    child = making.result()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.reap()


async def _start(preload: Sequence[str], environment: Mapping[str, str]) -> _Zygote:
    """Start a zygote; leave out what starts threads when it is imported. Raises NotWarm."""
    if not hasattr(os, "pidfd_open"):
        raise NotWarm("this system has no pidfd: forking needs Linux")
    adopt_orphans()
    without: list[str] = []
    while True:
        wire, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wire.setblocking(False)
        with other:
            command = [sys.executable, "-m", "services.zygote", str(other.fileno())]
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own command, no waiting
                [*command, ",".join(preload), ",".join(without)],
                env=environment,
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
            )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                answer = await _hear(wire)
        except (OSError, TimeoutError) as error:
            process.kill()
            process.wait()
            wire.close()
            raise NotWarm(
                f"the zygote does not come up: {str(error) or 'it takes too long'}"
            ) from error
        if "blame" in answer:
            logger.error("%s starts a thread when it is imported: left out", answer["blame"])
            without.append(str(answer["blame"]))
            process.wait()
            wire.close()
            continue
        for name, why in answer["failed"].items():
            logger.error("%s cannot be imported, and is left to its own runs: %s", name, why)
        return _Zygote(process, wire)


async def _ask(zygote: _Zygote, order: Order) -> dict[str, Any]:
    fd = os.memfd_create("order", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:  # noqa: ASYNC230 - it is in memory
            file.write(order.as_json())
        socket.send_fds(zygote.wire, [b"run"], [fd])
    finally:
        os.close(fd)
    return await _hear(zygote.wire)


async def _hear(wire: socket.socket) -> dict[str, Any]:
    """Return the next answer. Raises ConnectionError where none will come."""
    said = await asyncio.get_running_loop().sock_recv(wire, BIGGEST_ANSWER)
    if not said:
        raise ConnectionResetError("it ended")
    answer: dict[str, Any] = json.loads(said)
    return answer


def adopt_orphans() -> None:
    """Ask the system that processes whose parent dies become children of this one."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise NotWarm(f"the system gives no orphans to a worker: {os.strerror(ctypes.get_errno())}")
