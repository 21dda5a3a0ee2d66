"""How a run's process comes to its end: asked to, made to, swept behind, and put on record."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import TypeAdapter, ValidationError

from services import leftovers
from services.leftovers import Swept
from services.zygote import RUN_NAME
from smartops.durations import Duration
from smartops.jobs.spec import JobSpec
from smartops.settings import get_settings
from tasks.job import TIME_TO_CANCEL_S

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

logger = logging.getLogger(__name__)
_FLOW_S = 30.0
"""How long a flow that is not a job may take to end, as with Prefect."""
_OWN_END_S = 5.0
"""What a job's process needs for its end beside the steps that clean up."""
_TIDY_S = 5.0
_WORDS = (RUN_NAME, "prefect.engine")


@dataclass(frozen=True)
class Exit:
    """How the process of a run has ended."""

    status: int | None
    """The exit status; negative for the signal that ended it."""
    cause: str | None = None
    """Why, in words, where it did not end by itself in peace."""
    swept: Swept = field(default_factory=Swept)
    told: bool = False
    """Whether it was told to end."""


def grace_of(flow_run: FlowRun) -> float:
    """Return for how many seconds a run that is told to end may go on: its job says for how long.

    To that comes what the process needs besides, as to report its end, and what its children need
    to end in order before it takes back what it has made itself.
    """
    job = (flow_run.parameters or {}).get("job")
    if not isinstance(job, dict):
        return _FLOW_S
    kinds = {step.get("kind") for step in job.get("steps") or () if isinstance(step, dict)}
    children_s = TIME_TO_CANCEL_S if "job" in kinds else 0.0
    cleanup: Any = job.get("cleanup") or JobSpec.model_fields["cleanup"].default
    with suppress(ValidationError):
        length = TypeAdapter(Duration).validate_python(cleanup)
        own = get_settings().ship_at_run_end.total_seconds() + _OWN_END_S
        return float(length.total_seconds()) + own + children_s
    return _FLOW_S


class Ending:
    """How one process of a run is ended; it is what Prefect calls a termination scope.

    SIGTERM goes to the process alone, so that it ends what it has begun: a step's browser or script
    must not be ended under the hands of a run that is cleaning up. SIGKILL goes to all that is its.
    """

    wait_after_graceful_kill = True

    def __init__(self, run: UUID, grace_s: float) -> None:
        self.run = run
        self.grace_s = grace_s
        self.over = asyncio.Event()
        """Set when the process has ended, and all that it has left."""
        self.told = False
        """Whether it was told to end."""
        self.told_why = ""
        """Why it was killed, where that was done here."""

    def is_alive(self, pid: int) -> bool:
        """Return whether the process, or something of its group, still runs."""
        if self.over.is_set():
            return False
        try:
            os.killpg(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def graceful_kill(self, pid: int) -> None:
        """Ask the process to end."""
        os.kill(pid, signal.SIGTERM)

    def hard_kill(self, pid: int) -> None:
        """End the process and all that is below it."""
        leftovers.end(leftovers.below([pid]))

    def close(self) -> None:
        """Nothing is held."""

    async def cancel(self, pid: int) -> None:
        """Ask the process to end, and make it when its time is over; wait until all is gone."""
        self.told = True
        with suppress(ProcessLookupError):
            self.graceful_kill(pid)
        try:
            async with asyncio.timeout(self.grace_s):
                await self.over.wait()
        except TimeoutError:
            self.told_why = f"it was told to end, and had not after {self.grace_s:g} s"
            self.hard_kill(pid)
            await self.over.wait()


class Endings:
    """The runs of one worker that have a process, until nothing of them is left."""

    def __init__(self, others: Callable[[], Collection[int]]) -> None:
        self._others = others
        """The worker's children that are no runs."""
        self.alive: dict[UUID, tuple[int, Ending]] = {}
        self._began: dict[UUID, float] = {}

    def begin(self, ending: Ending, pid: int) -> None:
        """Note the process of a run."""
        self.alive[ending.run] = (pid, ending)
        self._began[ending.run] = time.time()

    def known(self) -> set[int]:
        """Return the children that are known; all others are orphans."""
        return {pid for pid, _ in self.alive.values()} | set(self._others())

    async def over(self, ending: Ending, pid: int) -> Swept:
        """Sweep behind a run whose process has ended."""
        known = self.known() - {pid}
        try:
            swept = await leftovers.sweep(ending.run, pid, known)
        finally:
            if self.alive.get(ending.run) == (pid, ending):
                del self.alive[ending.run], self._began[ending.run]
            ending.over.set()
        if swept.left_behind:
            names = ", ".join(swept.left_behind)
            logger.warning("run %s left behind, and it was ended: %s", ending.run, names)
        if swept.still_alive:
            names = ", ".join(swept.still_alive)
            logger.error("run %s left behind what cannot be ended: %s", ending.run, names)
        return swept

    async def tidy(self) -> None:
        """Look again and again for what came to light late; never returns."""
        strays = leftovers.Strays(_WORDS)
        while True:
            await asyncio.sleep(_TIDY_S)
            try:
                late = strays.tidy(self.known(), self._began)
            except OSError as error:
                logger.warning("it cannot be seen what runs have left: %s", error)
                continue
            if late:
                logger.warning("ended, as their runs have: %s", ", ".join(late))


@dataclass(frozen=True)
class Spent:
    """What a process had used when it ended, and what the system had done by then."""

    cpu_s: float = 0.0
    starved: bool = False
    """Whether the system ended a process for want of memory meanwhile."""


def cause_of(status: int | None, spent: Spent, cpu_limit: int | None, told_why: str) -> str | None:
    """Return in words why a process ended, None where it ended in peace. Pure."""
    if status is None or status == 0:
        return None
    if status > 0:
        return f"exit status {status}"
    try:
        text = f"killed by {signal.Signals(-status).name}"
    except ValueError:
        text = f"killed by signal {-status}"
    by_limit = -status in {signal.SIGKILL, signal.SIGXCPU}
    if by_limit and told_why:
        return f"{text}: {told_why}"
    if by_limit and cpu_limit and spent.cpu_s >= cpu_limit - 0.5:
        return f"{text}: it had used the {cpu_limit} s of CPU time that it may"
    if -status == signal.SIGKILL and spent.starved:
        return f"{text}: the system had no memory left"
    return text


def kills_for_memory() -> int:
    """Return how many processes this system has ended for want of memory."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text("ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
