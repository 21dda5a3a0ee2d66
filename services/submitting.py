"""Starts runs: of a deployed job by its name, or of a job that is not deployed at all."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
from prefect.exceptions import PrefectHTTPStatusError

from smartops.errors import BadInput, PrefectUnavailable
from smartops.jobs.spec import JobSpec
from tasks.run_context import REQUESTED_BY

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

FLOW = "run-job"
TEMPLATE = "run-job"


async def submit(
    job: str, spec: JobSpec | None, params: dict[str, Any], *, rehearse: bool = False
) -> tuple[UUID, JobSpec]:
    """Start a run; return its id and the job that it runs.

    A job from a file runs through the deployment ``run-job/run-job``. Raises BadInput for an
    unknown job or wrong parameters (nothing is started then), PrefectUnavailable.
    """
    try:
        async with get_client() as client:
            deployment = await _find(client, TEMPLATE if spec is not None else job)
            if spec is None:
                spec = JobSpec.model_validate(deployment.parameters["job"])
            spec.resolve_params(params)
            run = await client.create_flow_run_from_deployment(
                deployment.id,
                parameters={"job": spec.document(), "params": params, "rehearse": rehearse},
                labels={REQUESTED_BY: getpass.getuser()},
            )
            return run.id, spec
    except PrefectHTTPStatusError as error:
        text = error.response.text[:300]
        raise BadInput(f"Prefect refused the run: {text}") from error
    except httpx.TransportError as error:
        raise PrefectUnavailable(
            f"Prefect's API does not answer ({type(error).__name__})",
            hint="Check PREFECT_API_URL, or start everything with `smartops up --detach`.",
        ) from error


async def _find(client: PrefectClient, name: str) -> DeploymentResponse:
    wanted = DeploymentFilter(name=DeploymentFilterName(any_=[name]))
    flows = {}
    found = []
    for deployment in await client.read_deployments(deployment_filter=wanted):
        if deployment.flow_id not in flows:
            flows[deployment.flow_id] = (await client.read_flow(deployment.flow_id)).name
        if flows[deployment.flow_id] == FLOW:
            found.append(deployment)
    if not found:
        known = ", ".join(sorted(await _jobs(client))) or "none"
        raise BadInput(
            f"no job {name!r} is deployed; there are: {known}",
            hint="A flow written in Python is started with `prefect deployment run`.",
        )
    return found[0]


async def _jobs(client: PrefectClient) -> list[str]:
    return [d.name for d in await client.read_deployments() if "job" in d.parameters]
