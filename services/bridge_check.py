"""Looks whether what the sources of a device bridge name is there, before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks import MqttBroker
from blocks.connection import load_connection
from services import devices
from services.prefect_api import deployment_named, prefect
from smartops.errors import BadInput, SmartOpsError
from smartops.jobs.event_sources import MessageSource, SourceFile, Start, TagSource
from smartops.jobs.param import Param
from smartops.jobs.spec import JobSpec
from tasks.run_context import deployed_params

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse


async def problems_of(file: SourceFile) -> list[str]:
    """Return what is missing or wrong, one line each. Raises PrefectUnavailable."""
    found: list[str] = []
    for source in file.sources:
        for check in (_place, _start):
            try:
                await check(source)
            except BadInput as error:
                found.append(f"{source.name}: {error.one_line}")
    return found


async def _place(source: MessageSource | TagSource) -> None:
    if isinstance(source, MessageSource):
        await load_connection(MqttBroker, source.broker)
        levels = source.topic.split("/")
        odd = any(("#" in level or "+" in level) and len(level) > 1 for level in levels)
        if odd or "#" in levels[:-1]:
            raise BadInput(f"{source.topic!r} is no topic: + and # stand for whole levels, # last")
        return
    device = await devices.find(source.device)
    known = {tag.name for tag in device.tags}
    missing = [tag for tag in source.tags if tag not in known]
    if missing:
        raise BadInput(f"{source.device} has no tag {', '.join(missing)}")


async def _start(source: MessageSource | TagSource) -> None:
    if source.start is not None:
        async with prefect() as client:
            deployment = await deployment_named(client, source.start.job)
        check_start(source.start, deployment)


def check_start(
    start: Start, deployment: DeploymentResponse, *, may_be_paused: bool = False
) -> None:
    """Raise BadInput when a deployment is no job, or does not take the parameters it is given."""
    params, given, paused = _params(start, deployment)
    unknown = sorted(set(start.params) - set(params))
    if unknown:
        raise BadInput(f"job {start.job} has no parameter {', '.join(unknown)}")
    needed = {name for name, param in params.items() if param.default is None}
    missing = sorted(needed - set(start.params) - given)
    if missing:
        raise BadInput(f"job {start.job} needs the parameter {', '.join(missing)}")
    if paused and not may_be_paused:
        raise BadInput(f"job {start.job} is paused, so that no event starts it")


def _params(
    start: Start, deployment: DeploymentResponse
) -> tuple[dict[str, Param], set[str], bool]:
    """Return the parameters of a job, which its deployment gives, and whether it is paused."""
    if "job" not in deployment.parameters:
        raise BadInput(f"{start.job!r} is no job, but a flow of its own")
    try:
        params = JobSpec.model_validate(deployment.parameters["job"]).params
        return dict(params), set(deployed_params(deployment)), bool(deployment.paused)
    except (SmartOpsError, ValueError) as error:
        raise BadInput(f"job {start.job} cannot be read: {error}") from None
