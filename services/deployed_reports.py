"""Users' own reports as Prefect deployments of the flow ``report``, each with its schedule."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.utilities.callables import parameter_schema

from flows.reporting import report
from reports.own.spec import OwnReport
from services.deployed_jobs import TAG
from services.prefect_api import POOL
from services.prefect_schedules import as_prefect
from smartops.jobs.scheduling import Schedule

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.orchestration import PrefectClient

ENTRYPOINT = "flows.reporting.report"
SLUG = "regular"


def name_of(own: OwnReport) -> str:
    """Return the name of a report's deployment."""
    return f"report-{own.name}"


def schedules_of(own: OwnReport) -> list[DeploymentScheduleCreate]:
    """Return when a report is made. Raises BadInput for what Prefect does not take."""
    if own.schedule is None:
        return []
    schedule = as_prefect(Schedule(cron=own.schedule.cron, timezone=own.schedule.timezone))
    return [DeploymentScheduleCreate(schedule=schedule, active=True, slug=SLUG)]


async def deploy(client: PrefectClient, own: OwnReport, revision: str) -> UUID:
    """Create the deployment of a report, or bring it up to date; whether it is paused stays."""
    return await client.create_deployment(
        await client.create_flow_from_name(report.name),
        name_of(own),
        entrypoint=ENTRYPOINT,
        path=None,
        pull_steps=[],
        description=own.description,
        version=revision[:12],
        tags=[TAG],
        work_pool_name=POOL,
        parameters={"name": own.name},
        parameter_openapi_schema=json.loads(parameter_schema(report).model_dump_json()),
        enforce_parameter_schema=True,
        schedules=schedules_of(own),
    )
