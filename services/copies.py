"""Copies of jobs that people make in Prefect's UI, which leaves out what starts them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prefect.client.schemas.actions import DeploymentUpdate

from services.deployed_jobs import ENTRYPOINT
from tasks.run_context import FLOW

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

logger = logging.getLogger(__name__)


async def complete(client: PrefectClient, deployment: DeploymentResponse) -> bool:
    """Give a copy of a job its entrypoint, where it has none; return whether that was needed."""
    if deployment.entrypoint is not None:
        return False
    flow = await client.read_flow(deployment.flow_id)
    if flow.name != FLOW:
        return False
    await client.update_deployment(deployment.id, DeploymentUpdate(entrypoint=ENTRYPOINT))
    logger.info("deployment %s is a copy made in Prefect's UI: it starts jobs now", deployment.name)
    return True
