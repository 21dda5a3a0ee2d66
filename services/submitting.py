"""Starts runs: of a deployed job by its name, or of a job that is not deployed at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from services.prefect_api import TEMPLATE, deployment_named, prefect
from smartops.errors import BadInput
from smartops.jobs.param import from_texts
from smartops.jobs.spec import JobSpec
from smartops.people import who_is_here
from tasks.run_context import REQUESTED_BY, deployed_params

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse


async def submit_for_event(
    client: PrefectClient, job: str, params: dict[str, Any], *, asked_by: str, key: str
) -> UUID:
    """Start a run of a deployed job for an event, once for each key; return its id.

    Raises BadInput for an unknown job, one that is paused, and wrong parameters.
    """
    deployment = await deployment_named(client, job)
    if "job" not in deployment.parameters:
        raise BadInput(f"{job!r} is no job, but a flow of its own")
    if deployment.paused:
        raise BadInput(f"job {job!r} is paused", hint=f"`smartops job resume {job}` lets it start.")
    run_id, _ = await _create(client, deployment, None, params, asked_by=asked_by, key=key)
    return run_id


async def submit(
    job: str, spec: JobSpec | None, params: dict[str, Any], *, rehearse: bool = False
) -> tuple[UUID, JobSpec]:
    """Start a run; return its id and the job that it runs.

    A parameter that is a text counts as what its type makes of it. A job from a file runs through
    the deployment ``run-job/run-job``. Raises BadInput for an unknown job or wrong parameters
    (nothing is started then), PrefectUnavailable.
    """
    async with prefect() as client:
        return await _create(
            client,
            await deployment_named(client, TEMPLATE if spec is not None else job),
            spec,
            params,
            asked_by=who_is_here(),
            # Prefect's client asks again when an answer is lost: that must make no second run.
            key=f"smartops-submit-{uuid4()}",
            rehearse=rehearse,
        )


async def _create(
    client: PrefectClient,
    deployment: DeploymentResponse,
    spec: JobSpec | None,
    params: dict[str, Any],
    *,
    asked_by: str,
    key: str,
    rehearse: bool = False,
) -> tuple[UUID, JobSpec]:
    """Create a run of a job, or of the deployment's own; once for each key."""
    if spec is None:
        spec = JobSpec.model_validate(deployment.parameters["job"])
        params = {**deployed_params(deployment), **params}
    params = from_texts(spec.params, params)
    spec.resolve_params(params)
    run = await client.create_flow_run_from_deployment(
        deployment.id,
        parameters={"job": spec.document(), "params": params, "rehearse": rehearse},
        labels={REQUESTED_BY: asked_by},
        idempotency_key=key,
    )
    return run.id, spec
