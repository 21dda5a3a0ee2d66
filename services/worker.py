"""The work pool type ``smartops``: runs each flow run in a process of its own.

Registered by entry point, so that ``prefect worker start --pool smartops --type smartops`` and the
form for work pools know it.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

POOL = "smartops"


class SmartOpsJobConfiguration(ProcessJobConfiguration):
    """How a run is started. Jobs are installed code, so no workspace is prepared for them."""

    def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:
        """Start the engine directly, in the worker's folder, where its ``.env`` is.

        Prefect's own default starts a second interpreter first, to fetch and unpack code.
        """
        if self.command is None:
            self.command = f"{shlex.quote(sys.executable)} -m prefect.engine"
        if self.working_dir is None:
            self.working_dir = Path.cwd()
        super().prepare_for_flow_run(*args, **kwargs)


class SmartOpsWorker(ProcessWorker):
    """The worker of the pool type ``smartops``."""

    type = "smartops"
    job_configuration = SmartOpsJobConfiguration
    _display_name = "SmartOps"
    _description = "Runs SmartOps jobs and audited flows, each in a process of its own."
    _logo_url = ""
