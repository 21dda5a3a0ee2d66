"""What a work pool or a deployment settles for the processes of its runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.workers.process import ProcessJobConfiguration, ProcessVariables
from pydantic import Field, PrivateAttr

from services.warm_start import Recipe

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
        deployment = self._related_objects.get("deployment")
        if deployment is not None and not deployment.pull_steps:
            dotted = deployment.entrypoint and ":" not in deployment.entrypoint
            self._entrypoint = deployment.entrypoint if dotted else None

    @property
    def limits(self) -> dict[str, int]:
        """The resource limits of the run's process, by the names of the ``resource`` module."""
        wanted = {
            "DATA": self.memory_limit and self.memory_limit * _MIB,
            "CPU": self.cpu_limit,
            "NOFILE": self.open_files_limit,
        }
        return {name: limit for name, limit in wanted.items() if limit}

    def recipe(self, result_storage: UUID | None) -> Recipe:
        """Return how the process of the run is to be."""
        return Recipe(
            command=str(self.command),
            environment=self.env,
            working_dir=str(Path(self.working_dir or ".").resolve()),
            limits=self.limits,
            quiet=not self.stream_output,
            entrypoint=self._entrypoint,
            result_storage=result_storage,
            warm=self._warm,
        )


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
