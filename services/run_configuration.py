"""What a work pool or a deployment settles for the processes of its runs."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.workers.process import ProcessJobConfiguration, ProcessVariables
from pydantic import Field, PrivateAttr

from services.warm_start import Recipe
from services.zygote import Known

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import Flow

_MIB = 1024 * 1024
_READ_AT_THE_START = ("PYTHON", "LD_")
"""What begins so is read by an interpreter when it starts: a fork would not heed it."""


class SmartOpsJobConfiguration(ProcessJobConfiguration):
    """How a run is started. Jobs are installed code, so no workspace is prepared for them."""

    memory_limit: int | None = None
    cpu_limit: int | None = None
    open_files_limit: int | None = None
    _warm: bool = PrivateAttr(default=False)
    _entrypoint: str | None = PrivateAttr(default=None)
    _related: dict[str, dict[str, Any]] = PrivateAttr(default_factory=dict)

    def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:
        """Start the engine directly, in the worker's folder, where its ``.env`` is.

        Prefect's own default starts a second interpreter first, to fetch and unpack code.
        """
        self._warm = self.command is None and not any(
            name.startswith(_READ_AT_THE_START) for name in self.env or {}
        )
        if self.command is None:
            self.command = f"{shlex.quote(sys.executable)} -m prefect.engine"
        if self.working_dir is None:
            self.working_dir = Path.cwd()
        super().prepare_for_flow_run(*args, **kwargs)
        self._related = self._named_in_events(kwargs.get("work_pool"))
        deployment = self._related_objects.get("deployment")
        if deployment is not None and not deployment.pull_steps:
            dotted = deployment.entrypoint and ":" not in deployment.entrypoint
            self._entrypoint = deployment.entrypoint if dotted else None

    def _named_in_events(self, work_pool: Any) -> dict[str, dict[str, Any]]:
        run, deployment = self._related_objects["flow-run"], self._related_objects["deployment"]
        found = {
            kind: {"key": str(one.id), "id": str(one.id), "name": one.name, "tags": one.tags}
            for kind, one in (("flow", self._related_objects["flow"]), ("deployment", deployment))
            if one is not None
        }
        if work_pool is not None:
            pool = {"key": work_pool.name, "id": str(work_pool.id), "name": work_pool.name}
            found["work-pool"] = pool
        queue = run.work_queue_id
        name = run.work_queue_name or (
            deployment.work_queue_name
            if deployment is not None and deployment.work_queue_id == queue
            else None
        )
        if queue is not None and name:
            found["work-queue"] = {"key": str(queue), "id": str(queue), "name": name}
        return found

    @property
    def limits(self) -> dict[str, int]:
        """The resource limits of the run's process, by the names of the ``resource`` module."""
        wanted = {
            "DATA": self.memory_limit and self.memory_limit * _MIB,
            "CPU": self.cpu_limit,
            "NOFILE": self.open_files_limit,
        }
        return {name: limit for name, limit in wanted.items() if limit}

    def recipe(self, result_storage: UUID | None, *, csrf: bool = True) -> Recipe:
        """Return how the process of the run is to be."""
        storage = str(result_storage) if result_storage else None
        return Recipe(
            command=str(self.command),
            environment=self.env,
            working_dir=str(Path(self.working_dir or ".").resolve()),
            limits=self.limits,
            quiet=not self.stream_output,
            entrypoint=self._entrypoint,
            known=Known(storage, csrf, self._related),
            warm=self._warm,
        )


class KnownFlows:
    """A client of Prefect's API that reads each flow once: an id and a name, which stay."""

    def __init__(self, client: Callable[[], PrefectClient]) -> None:
        self._client = client
        self._flows: dict[UUID, Flow] = {}

    def __getattr__(self, name: str) -> Any:
        """Return what the client has under a name."""
        return getattr(self._client(), name)

    async def read_flow(self, flow_id: UUID) -> Flow:
        """Return a flow as it was when it was read first."""
        if flow_id not in self._flows:
            self._flows[flow_id] = await self._client().read_flow(flow_id)
        return self._flows[flow_id]


class SmartOpsVariables(ProcessVariables):
    """What a work pool or a deployment may settle for its runs."""

    memory_limit: int | None = Field(
        default=None,
        ge=64,
        title="Memory limit",
        description="How many MiB of memory of its own a run's process may have. A run that wants "
        "more fails. Empty: no limit.",
    )
    cpu_limit: int | None = Field(
        default=None,
        ge=1,
        title="CPU time limit",
        description="After how many seconds of CPU time a run's process is killed. Waiting costs "
        "none. Empty: no limit.",
    )
    open_files_limit: int | None = Field(
        default=None,
        ge=64,
        title="Open files limit",
        description="How many files and connections a run's process may have open. Empty: what "
        "the worker itself may have.",
    )
