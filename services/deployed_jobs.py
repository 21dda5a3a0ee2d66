"""Jobs as Prefect deployments: reading them, and creating, changing and deleting them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from flows.run_job import run_job
from services.prefect_api import POOL, deployment_named, deployment_or_none
from services.prefect_schedules import schedules_of
from smartops.errors import BadInput
from smartops.jobs.param import Param
from smartops.jobs.revision import revision_of
from smartops.jobs.spec import JobSpec
from tasks.run_context import FLOW, deployed_params

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule
    from prefect.client.schemas.responses import DeploymentResponse

ENTRYPOINT = "flows.run_job.run_job"
TAG = "smartops"
_PAGE = 200


@dataclass(frozen=True)
class DeployedJob:
    """A job that Prefect can run."""

    id: UUID
    name: str
    """The deployment's name: mostly the job's own, another one for a copy made in the UI."""
    spec: JobSpec
    paused: bool
    updated_at: datetime | None
    drifted: bool = False
    """Whether its schedules or its parameters are others than its job says: changed in the UI."""
    schedules: tuple[DeploymentSchedule, ...] = ()
    """As Prefect has them."""

    @property
    def revision(self) -> str:
        """The revision that its next run will have."""
        return revision_of(self.spec)


async def deployed_jobs(client: PrefectClient) -> dict[str, DeployedJob]:
    """Return all deployed jobs by their names. A deployment whose job is not one is left out."""
    found: dict[str, DeployedJob] = {}
    of_flow = FlowFilter(name=FlowFilterName(any_=[FLOW]))
    offset = 0
    while True:
        page = await client.read_deployments(flow_filter=of_flow, limit=_PAGE, offset=offset)
        for deployment in page:
            job = job_or_none(deployment)
            if job is not None:
                found[job.name] = job
        offset += len(page)
        if len(page) < _PAGE:
            return dict(sorted(found.items()))


async def deployed_job(client: PrefectClient, name: str) -> DeployedJob:
    """Return a deployed job. Raises BadInput where there is none of that name."""
    return job_in(await deployment_named(client, name))


def job_in(deployment: DeploymentResponse) -> DeployedJob:
    """Return the job that a deployment runs. Raises BadInput where it is none."""
    job = job_or_none(deployment)
    if job is None:
        raise BadInput(
            f"deployment {deployment.name!r} holds no job: it is the template, or was changed"
        )
    return job


async def find_job(client: PrefectClient, name: str) -> DeployedJob | None:
    """Return a deployed job, None where there is none of that name."""
    deployment = await deployment_or_none(client, name)
    return job_or_none(deployment) if deployment is not None else None


def job_or_none(deployment: DeploymentResponse) -> DeployedJob | None:
    """Return the job that a deployment runs, None where it is none."""
    try:
        spec = JobSpec.model_validate((deployment.parameters or {})["job"])
    except (KeyError, ValidationError):
        return None
    own = [(s.slug or "", s.schedule, s.active, s.parameters) for s in deployment.schedules]
    said = [(s.slug or "", s.schedule, s.active, s.parameters) for s in schedules_of(spec)]
    drifted = bool(deployed_params(deployment)) or sorted(own, key=str) != sorted(said, key=str)
    paused = bool(deployment.paused)
    return DeployedJob(
        deployment.id,
        deployment.name,
        spec,
        paused,
        deployment.updated,
        drifted,
        tuple(deployment.schedules),
    )


async def deploy(client: PrefectClient, spec: JobSpec, name: str | None = None) -> UUID:
    """Create the deployment of a job, or bring it up to date; whether it is paused stays."""
    flow_id = await client.create_flow_from_name(FLOW)
    return await client.create_deployment(
        flow_id,
        name or spec.name,
        entrypoint=ENTRYPOINT,
        path=None,
        pull_steps=[],
        description=spec.description,
        version=revision_of(spec)[:12],
        tags=[TAG],
        work_pool_name=POOL,
        parameters={"job": spec.document(), "params": {}},
        parameter_openapi_schema=form_of(spec),
        enforce_parameter_schema=True,
        schedules=schedules_of(spec),
    )


def form_of(spec: JobSpec) -> dict[str, Any]:
    """Return the JSON Schema behind the form that starts a run: a field for each parameter."""
    schema = json.loads(parameter_schema(run_job).model_dump_json())
    properties: dict[str, Any] = schema["properties"]
    if spec.params:
        properties["params"] = {
            "title": "Parameters",
            "type": "object",
            "position": 0,
            "properties": {name: _field(name, param) for name, param in spec.params.items()},
            "required": [name for name, param in spec.params.items() if param.default is None],
        }
        ordered = ["params", *(name for name in properties if name != "params")]
        schema["properties"] = {
            name: {**properties[name], "position": place} for place, name in enumerate(ordered)
        }
    return dict(schema)


def _field(name: str, param: Param) -> dict[str, Any]:
    field: dict[str, Any] = {"title": name, "type": param.type, "description": param.description}
    options: Mapping[str, Any] = {
        "default": param.default,
        "enum": list(param.choices) or None,
        "minimum": param.minimum,
        "maximum": param.maximum,
    }
    return {**field, **{key: value for key, value in options.items() if value is not None}}


async def set_paused(client: PrefectClient, job: DeployedJob, *, paused: bool) -> None:
    """Pause a job's schedules, or let them go on."""
    await client.update_deployment(job.id, DeploymentUpdate(paused=paused))


async def delete(client: PrefectClient, job: DeployedJob) -> None:
    """Delete a job's deployment. What is on record of it stays."""
    await client.delete_deployment(job.id)
