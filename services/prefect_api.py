"""What the reconciler asks Prefect's API, and what it sets there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterEndTime,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    LogFilter,
    LogFilterFlowRunId,
    LogFilterTimestamp,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, Log, State, StateType, TaskRun
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Scheduled

from services import found_once
from smartops.errors import (
    BadInput,
    JournalUnavailable,
    PrefectUnavailable,
    StoreUnavailable,
)
from tasks.run_context import CANCELLED_BY, FLOW

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.responses import DeploymentResponse

found_once.certificates()
found_once.time_zones()

POOL = "smartops"
"""The work pool of all jobs."""
TEMPLATE = "run-job"
"""The deployment that runs any job: behind the form in the UI, and behind a job from a file."""
AWAY = (httpx.TransportError, StoreUnavailable, JournalUnavailable)
"""What concerns everything, and not the one run that was looked at."""
_PAGE = 200
_SERVER_ERROR = 500
_LATER = frozenset({401, 403, 408, 425, 429})
"""What says nothing of what was asked for."""
ACTIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_UNDER_WAY = {StateType.RUNNING, StateType.PENDING}


class PrefectApi:
    """A connection to Prefect's API, for one round of comparing."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client
        self._flow_names: dict[UUID, str] = {}

    async def active_runs(self) -> list[FlowRun]:
        """Return the runs that are pending, running or being cancelled."""
        types = FlowRunFilterStateType(any_=ACTIVE)
        return await self._runs(FlowRunFilter(state=FlowRunFilterState(type=types)))

    async def ended_runs(self, since: datetime) -> list[FlowRun]:
        """Return the runs that ended since then."""
        return await self._runs(FlowRunFilter(end_time=FlowRunFilterEndTime(after_=since)))

    async def due_runs(self, deployment: UUID, since: datetime, until: datetime) -> list[FlowRun]:
        """Return the runs of a deployment that were due in a time."""
        due = FlowRunFilterExpectedStartTime(after_=since, before_=until)
        of = FlowRunFilterDeploymentId(any_=[deployment])
        return await self._runs(FlowRunFilter(expected_start_time=due, deployment_id=of))

    async def _runs(self, wanted: FlowRunFilter) -> list[FlowRun]:
        found: list[FlowRun] = []
        while True:
            page = await self._client.read_flow_runs(
                flow_run_filter=wanted, limit=_PAGE, offset=len(found)
            )
            found += page
            if len(page) < _PAGE:
                return found

    async def run(self, run_id: UUID) -> FlowRun | None:
        """Return a run, None where Prefect has none."""
        try:
            return await self._client.read_flow_run(run_id)
        except ObjectNotFound:
            return None

    async def flow_name(self, run: FlowRun) -> str:
        """Return the name of a run's flow."""
        if run.flow_id not in self._flow_names:
            self._flow_names[run.flow_id] = (await self._client.read_flow(run.flow_id)).name
        return self._flow_names[run.flow_id]

    async def task_runs(self, run_id: UUID) -> list[TaskRun]:
        """Return the task runs of a run."""
        found: list[TaskRun] = []
        wanted = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run_id]))
        while True:
            page = await self._client.read_task_runs(
                task_run_filter=wanted, limit=_PAGE, offset=len(found)
            )
            found += page
            if len(page) < _PAGE:
                return found

    async def log_lines(self, run_id: UUID, since: datetime | None) -> list[Log]:
        """Return the log lines of a run, the oldest first."""
        after = LogFilterTimestamp(after_=since) if since else None
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id]), timestamp=after)
        found: list[Log] = []
        while True:
            page = await self._client.read_logs(wanted, limit=_PAGE, offset=len(found))
            found += page
            if len(page) < _PAGE:
                return sorted(found, key=lambda line: line.timestamp)

    async def deployments(self) -> list[DeploymentResponse]:
        """Return all deployments."""
        found: list[DeploymentResponse] = []
        while True:
            page = await self._client.read_deployments(limit=_PAGE, offset=len(found))
            found += page
            if len(page) < _PAGE:
                return found

    async def states(self, run_id: UUID) -> list[State[Any]]:
        """Return the states that a run has been in, the oldest first."""
        found = await self._client.read_flow_run_states(run_id)
        return sorted(found, key=lambda state: state.timestamp)

    async def end_in_order(self, run_id: UUID, person: str) -> None:
        """Give a run that was cancelled while it waited a process, to take back what it made."""
        await end_in_order(self._client, run_id, person, f"cancelled by {person}: it ends in order")

    async def go_on(self, run_id: UUID, message: str) -> None:
        """Let a run that waits for a person go on without an answer."""
        run = await self.run(run_id)
        if run is not None and run.state is not None and run.state.is_paused():
            state: State[Any] = Scheduled(message=message)
            await self._client.set_flow_run_state(run_id, state, force=True)

    async def make_run(
        self,
        deployment: DeploymentResponse,
        params: dict[str, Any],
        key: str,
        labels: dict[str, Any],
    ) -> None:
        """Start a run of a deployment, once for a key."""
        await self._client.create_flow_run_from_deployment(
            deployment.id,
            parameters={**deployment.parameters, "params": params},
            idempotency_key=key,
            labels=labels,
        )

    async def end_run(self, run_id: UUID, kind: StateType, message: str) -> None:
        """Give a run, and those of its tasks that seem to run, their end."""
        state: State[Any] = State(type=kind, name=kind.value.capitalize(), message=message)
        await self._client.set_flow_run_state(run_id, state, force=True)
        for task in await self.task_runs(run_id):
            if task.state_type in _UNDER_WAY:
                await self._client.set_task_run_state(
                    task.id,
                    State(type=StateType.CRASHED, name="Crashed", message=message),
                    force=True,
                )


@asynccontextmanager
async def prefect_api() -> AsyncIterator[PrefectApi]:
    """Give a connection to Prefect's API. Raises PrefectUnavailable."""
    try:
        async with get_client() as client:
            yield PrefectApi(client)
    except (httpx.TransportError, PrefectHTTPStatusError) as error:
        raise PrefectUnavailable(
            f"Prefect's API does not answer ({type(error).__name__})", hint="Check PREFECT_API_URL."
        ) from error


@asynccontextmanager
async def prefect() -> AsyncIterator[PrefectClient]:
    """Give a client of Prefect's API. Raises PrefectUnavailable; BadInput for what it refuses."""
    with prefect_errors():
        async with get_client() as client:
            yield client


@contextmanager
def prefect_errors() -> Iterator[None]:
    """Turn the errors of Prefect's client into PrefectUnavailable, or BadInput where it refuses."""
    try:
        yield
    except PrefectHTTPStatusError as error:
        code = error.response.status_code
        if code >= _SERVER_ERROR or code in _LATER:
            raise PrefectUnavailable(
                f"Prefect's API answers {code}",
                hint="It may be busy, or want other credentials (PREFECT_API_KEY).",
            ) from error
        raise BadInput(f"Prefect refused it: {error.response.text[:300]}") from error
    except httpx.TransportError as error:
        raise PrefectUnavailable(
            f"Prefect's API does not answer ({type(error).__name__})",
            hint="Check PREFECT_API_URL, or start everything with `smartops up --detach`.",
        ) from error


async def end_in_order(client: PrefectClient, run_id: UUID, person: str, message: str) -> None:
    """Give a run without a process one, in which it takes back what it has made, and ends."""
    await client.update_flow_run_labels(run_id, {CANCELLED_BY: person})
    state: State[Any] = Scheduled(message=message)
    await client.set_flow_run_state(run_id, state, force=True)


async def deployment_or_none(client: PrefectClient, name: str) -> DeploymentResponse | None:
    """Return the deployment of a job, None where there is none of that name."""
    try:
        return await client.read_deployment_by_name(f"{FLOW}/{name}")
    except ObjectNotFound:
        return None


async def deployment_named(client: PrefectClient, name: str) -> DeploymentResponse:
    """Return the deployment of a job, or the template. Raises BadInput where there is none."""
    deployment = await deployment_or_none(client, name)
    if deployment is None:
        names = sorted(d.name for d in await client.read_deployments() if "job" in d.parameters)
        raise BadInput(
            f"no job {name!r} is deployed; there are: {', '.join(names) or 'none'}",
            hint="A flow written in Python is started with `prefect deployment run`.",
        )
    return deployment
