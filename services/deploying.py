"""What `prefect deploy` needs of us: the work pool, and the job files as parameters.

Prefect calls :func:`setup_environment` before each of its commands in a folder whose
``pyproject.toml`` or ``prefect.toml`` enables plugins.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from prefect.plugins import HookContext, register_hook

from services.changed_files import State, state_of
from services.zygote import RUN_ID

logger = logging.getLogger(__name__)


@register_hook
def setup_environment(*, ctx: HookContext) -> None:
    """Make sure that the work pool exists before `prefect deploy` looks for it.

    And let Prefect find out once what does not change in a process, and its server not stand still.
    With ``python -m prefect`` this runs before Python has put the module's name into ``sys.argv``.
    """
    from services import found_once, garbage, locked  # noqa: PLC0415 - see below

    found_once.certificates()
    found_once.time_zones()
    if RUN_ID in os.environ:  # this is the process of a run that was not forked
        from services import patience  # noqa: PLC0415 - see below

        patience.wait_for_prefect()
    if Path(sys.argv[0]).stem not in {"prefect", "__main__", "-m"}:
        return
    found_once.schemas()
    if {"server", "start"} <= set(sys.argv):
        garbage.collect_beside()
        locked.answer_again()
    if ctx.api_url and "deploy" in sys.argv:
        found_once.parameters_of_flows()
        ensure_pool()


def ensure_pool() -> None:
    """Create the work pool if the API has none of that name."""
    # This module is loaded with every `import prefect` in the project's folder; these are not.
    from prefect.client.orchestration import get_client  # noqa: PLC0415
    from prefect.client.schemas.actions import WorkPoolCreate  # noqa: PLC0415
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound  # noqa: PLC0415

    from services.prefect_api import POOL  # noqa: PLC0415
    from services.worker import SmartOpsWorker  # noqa: PLC0415

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            pool = WorkPoolCreate(
                name=POOL,
                type=SmartOpsWorker.type,
                description="Runs SmartOps jobs.",
                base_job_template=SmartOpsWorker.get_default_base_job_template(),
            )
            try:
                client.create_work_pool(pool)
            except ObjectAlreadyExists:
                logger.debug("another process has just made the work pool")


def read_jobs(folder: str) -> dict[str, Any]:
    """Return the jobs of a folder by name, ready to be a deployment's parameter.

    A build step of ``prefect.yaml``. Raises JobFileError, naming file, line and field.
    """
    path = Path(folder)
    return _read_jobs(path, state_of(path))  # each deployment asks for all of them


@lru_cache(maxsize=1)
def _read_jobs(folder: Path, _state: State) -> dict[str, Any]:
    from smartops.jobs import loader  # noqa: PLC0415 - see above

    jobs = [loader.load(path) for path in loader.job_files(folder)]
    return {
        job.name: {
            "job": job.document(),
            "description": job.description,
            "schedules": {s.name: s.model_dump(mode="json") for s in job.schedules},
        }
        for job in jobs
    }


def read_reports(folder: str) -> dict[str, Any]:
    """Return users' own reports of a folder by name, with what their deployments say of them.

    A build step of ``prefect.yaml``. Raises FileProblems, naming file, line and field.
    """
    path = Path(folder)
    return _read_reports(path, state_of(path))


@lru_cache(maxsize=1)
def _read_reports(folder: Path, _state: State) -> dict[str, Any]:
    from reports.own import files  # noqa: PLC0415 - see above

    reports = [files.load(path) for path in sorted(folder.glob("*.yaml"))]
    return {
        report.name: {
            "description": report.description,
            "schedule": report.schedule.model_dump(mode="json") if report.schedule else {},
        }
        for report in reports
    }
