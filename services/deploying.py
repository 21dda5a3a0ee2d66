"""What `prefect deploy` needs of us: the work pool, and the job files as parameters.

Prefect calls :func:`setup_environment` before each of its commands in a folder whose
``pyproject.toml`` or ``prefect.toml`` enables plugins.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from prefect.plugins import HookContext, register_hook

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
    found_once.schemas()
    if Path(sys.argv[0]).stem not in {"prefect", "__main__", "-m"}:
        return
    if sys.argv[1:3] == ["server", "start"]:
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
    from smartops.jobs import loader  # noqa: PLC0415 - see above

    return _read_jobs(_as_they_are(loader.job_files(Path(folder))))


_Files = tuple[tuple[Path, int, int], ...]


def _as_they_are(paths: Iterable[Path]) -> _Files:
    """Return files with what tells that they were changed: each deployment asks for all of them."""
    stats = [(path, path.stat()) for path in paths]
    return tuple((path, stat.st_mtime_ns, stat.st_size) for path, stat in stats)


@lru_cache(maxsize=1)
def _read_jobs(files: _Files) -> dict[str, Any]:
    from smartops.jobs import loader  # noqa: PLC0415 - see above

    jobs = [loader.load(path) for path, _, _ in files]
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
    return _read_reports(_as_they_are(sorted(Path(folder).glob("*.yaml"))))


@lru_cache(maxsize=1)
def _read_reports(files: _Files) -> dict[str, Any]:
    from reports.own.files import load  # noqa: PLC0415 - see above

    reports = [load(path) for path, _, _ in files]
    return {
        report.name: {
            "description": report.description,
            "schedule": report.schedule.model_dump(mode="json") if report.schedule else {},
        }
        for report in reports
    }
