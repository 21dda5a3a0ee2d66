"""The work pool type ``smartops``: runs each flow run in a process of its own.

Registered by entry point, so that ``prefect worker start --pool smartops --type smartops`` and the
form for work pools know it. What the worker takes, starts and sees end is on record, so that a run
whose worker died is told from one that goes on.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import anyio
import anyio.abc
import httpx
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse, WorkerFlowRunResponse
from prefect.exceptions import Abort, ObjectNotFound, PrefectHTTPStatusError
from prefect.flows import load_flow_from_flow_run
from prefect.runner._process_manager import ProcessHandle
from prefect.states import Pending, Scheduled
from prefect.types._datetime import now
from prefect.utilities.engine import propose_state
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult
from uuid6 import uuid7

from services import copies, gate, push
from services.cancelling import Canceller
from services.claims import may_go_unrecorded, record
from services.draining import Drain
from services.ending import Endings, Exit
from services.lasting import lasting
from services.run_configuration import KnownFlows, SmartOpsJobConfiguration, SmartOpsVariables
from services.warm import NotWarm, Nursery
from services.warm_start import ExecutorHost, WarmStarter, settings_environment
from smartops.audit import liveness
from smartops.settings import get_settings

logger = logging.getLogger(__name__)
_REMEMBERED = 10_000
_HEAD_START_S = 0.5
"""So long Prefect's server is left to the new process, before it is told what is not urgent."""


class SmartOpsWorker(ProcessWorker):
    """The worker of the pool type ``smartops``."""

    type = "smartops"
    job_configuration = SmartOpsJobConfiguration
    job_configuration_variables = SmartOpsVariables  # type: ignore[assignment]
    _display_name = "SmartOps"
    _description = "Runs SmartOps jobs and audited flows, each in a process of its own."
    _logo_url = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._claims: dict[UUID, UUID] = {}
        self._taken: dict[UUID, UUID | None] = {}
        """The state in which a run was taken: an answer that is older than that is not heeded."""
        self._not_before: dict[UUID, datetime] = {}
        """Runs that are not due yet, and may not start early."""
        self._complete: set[UUID] = set()
        """Deployments that are known to have what starts them."""
        self._flows: Any = KnownFlows(lambda: self.client)
        self._nursery = Nursery(
            get_settings().preload_modules, {**os.environ, **settings_environment()}
        )
        self._host = ExecutorHost()
        self._endings = Endings(lambda: self._nursery.own_pids)
        self._canceller = Canceller(self._host, self._endings, lambda: self.client)
        self._under_way: set[UUID] = set()
        """What was taken, until nothing is to be done for it any more."""
        self._drain = Drain(
            get_settings().drain_limit.total_seconds(),
            lambda: self._under_way | self._submitting_flow_run_ids,
            self._canceller.cancel_all,
        )
        self._result_storage: UUID | None = None
        self._asking = asyncio.Lock()
        self._known = asyncio.Event()
        """Set as soon as the server has told of the work pool."""
        self._expected = push.Expected()
        self._beside: list[asyncio.Task[None]] = []

    # --- its life -----------------------------------------------------------------------------

    async def setup(self) -> None:
        """Warm up while the worker says hello to the API."""
        warming = asyncio.create_task(self._warm_up())
        await super().setup()
        beside = (
            lasting("the look for what runs have left", self._endings.tidy),
            lasting("the look for cancelled runs", self._canceller.watch),
            lasting("push", self._be_pushed),
        )
        self._beside = [warming, *map(asyncio.create_task, beside)]
        self._drain.listen()
        liveness.let_machines_hear()

    async def teardown(self, *exc_info: Any) -> None:
        """Let everything go."""
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        try:
            await super().teardown(*exc_info)
        finally:
            await self._host.close()
            await self._nursery.close()

    async def _warm_up(self) -> None:
        with suppress(NotWarm):  # it is on record, and tried again with the first run
            await self._nursery.warm_up()
        try:
            async with self._host.context():
                logger.debug("what looks after runs is open")
        except Exception:
            logger.exception("what looks after runs cannot be opened; the first run tries again")

    async def _be_pushed(self) -> None:
        """Take runs as soon as Prefect tells of them."""
        await self._known.wait()
        listening = asyncio.create_task(push.listen(self.work_pool.id, self._expected.heard))
        try:
            await self._expected.ask(self._take)
        finally:
            listening.cancel()

    async def _take(self) -> None:
        try:
            await self.get_and_submit_flow_runs()
        except httpx.HTTPError as error:
            logger.warning("new runs cannot be asked for, the next poll does: %s", error)

    async def sync_with_backend(self) -> None:
        """Exchange with the server, every so often, what each has to know of the other."""
        await super().sync_with_backend()
        if self._work_pool is not None:
            self._known.set()
        try:
            kept = await self.client.read_server_default_result_storage()
            self._result_storage = kept.default_result_storage_block_id
        except PrefectHTTPStatusError as error:  # an older server knows of none
            logger.debug("no default storage of results is known: %s", error)

    # --- taking runs --------------------------------------------------------------------------

    async def get_and_submit_flow_runs(self) -> list[FlowRun]:
        """Take what is to be taken; one at a time, whether a poll or a push asks for it."""
        async with self._asking:
            if self._drain.has_begun():
                self._last_polled_time = now("UTC")  # it is well, to those who ask for its health
                return []
            return await super().get_and_submit_flow_runs()

    async def _submit_scheduled_flow_runs(
        self, flow_run_response: list[WorkerFlowRunResponse]
    ) -> list[FlowRun]:
        """Take runs that are due; those that may not start early are not asked for till then."""
        now = datetime.now(UTC)
        self._expected.seen(one.flow_run.id for one in flow_run_response)
        self._not_before = {run: due for run, due in self._not_before.items() if due > now}
        ready = [
            one
            for one in flow_run_response
            if one.flow_run.id not in self._not_before and not self._was_taken(one.flow_run)
        ]
        return await super()._submit_scheduled_flow_runs(in_turn(ready))

    def _was_taken(self, flow_run: FlowRun) -> bool:
        return flow_run.id in self._taken and self._taken[flow_run.id] == flow_run.state_id

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Take a run: say so on record before Prefect hears of it.

        Without a record there is no run: it stays scheduled until the journal has room, unless its
        job says that it may read off the record.
        """
        try:
            deployment = await self._deployment_of(flow_run)
        except ObjectNotFound:
            await super()._submit_run(flow_run)  # the base class ends it
            return
        except httpx.HTTPError as error:
            logger.warning("run %s waits: its deployment cannot be read: %s", flow_run.id, error)
            self._leave(flow_run)
            return
        if self._drain.has_begun():
            self._leave(flow_run)
            return
        if not await self._may_start(flow_run):
            self._not_before[flow_run.id] = due = gate.due_at(flow_run)
            self._expected.due(flow_run.id, due)
            self._leave(flow_run)
            return
        claim = uuid7()
        recorded = record("process.claimed", flow_run.id, claim, worker=self.name)
        if not recorded and not may_go_unrecorded(flow_run):
            self._leave(flow_run)
            return
        self._claims[flow_run.id] = claim
        self._under_way.add(flow_run.id)
        scheduled = flow_run.state_id
        try:
            if await self._propose_pending_state(flow_run):
                self._remember(flow_run.id, scheduled)
                await self._begin(flow_run, deployment)
        except httpx.HTTPError as error:
            logger.warning("run %s could not be taken, and is tried again: %s", flow_run.id, error)
        except Exception:  # whatever it is, the other runs go on
            logger.exception("run %s could not be taken", flow_run.id)
        finally:
            if self._claims.pop(flow_run.id, None) is not None:  # it never came to `run`
                record("process.exited", flow_run.id, claim, exit_status=None)
                self._under_way.discard(flow_run.id)
                self._release_limit_slot(flow_run.id)
            self._submitting_flow_run_ids.discard(flow_run.id)
            if self._cancelling_observer is not None:
                self._cancelling_observer.remove_in_flight_flow_run_id(flow_run.id)

    async def _deployment_of(self, flow_run: FlowRun) -> DeploymentResponse | None:
        """Return the deployment of a run, with what starts it. Raises ObjectNotFound."""
        if flow_run.deployment_id is None:
            return None
        deployment = await self.client.read_deployment(flow_run.deployment_id)
        if deployment.id not in self._complete:
            if await copies.complete(self.client, deployment):
                deployment = await self.client.read_deployment(deployment.id)
            self._complete.add(deployment.id)
        return deployment

    async def _may_start(self, flow_run: FlowRun) -> bool:
        """Return whether the job's policies let a run start now; not, where nobody can tell."""
        try:
            return await gate.ask(self.client, flow_run)
        except (httpx.HTTPError, ObjectNotFound) as error:
            logger.warning(
                "run %s waits: its job's policies cannot be asked: %s", flow_run.id, error
            )
            return False

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        """Tell Prefect that the run is taken, and keep the state that it gave for the child."""
        try:
            state = await propose_state(self.client, Pending(), flow_run_id=flow_run.id)
        except Abort as error:
            logger.info("run %s is not taken: %s", flow_run.id, error)
            return False
        if not state.is_pending():
            logger.info("run %s is not taken: it is %s", flow_run.id, state.name)
            return False
        if self._drain.has_begun():  # another worker has it at once
            due = flow_run.next_scheduled_start_time
            back: State[Any] = Scheduled(scheduled_time=due, message="its worker was stopped")
            await self.client.set_flow_run_state(flow_run.id, back, force=True)
            return False
        flow_run.state, flow_run.state_id = state, state.id
        flow_run.state_type, flow_run.state_name = state.type, state.name
        return True

    def _remember(self, run: UUID, state: UUID | None) -> None:
        self._taken[run] = state
        while len(self._taken) > _REMEMBERED:
            del self._taken[next(iter(self._taken))]

    def _leave(self, flow_run: FlowRun) -> None:
        """Leave a run to the next poll, as the base class leaves one that it may not submit."""
        self._release_limit_slot(flow_run.id)
        self._submitting_flow_run_ids.discard(flow_run.id)
        if self._cancelling_observer is not None:
            self._cancelling_observer.remove_in_flight_flow_run_id(flow_run.id)

    # --- making runs --------------------------------------------------------------------------

    async def _begin(self, flow_run: FlowRun, deployment: DeploymentResponse | None) -> None:
        """Start the run's process; what Prefect is told about it need not come before it."""
        if self._runs_task_group is None:
            raise RuntimeError("a worker that is not set up begins no runs")
        begun = await self._runs_task_group.start(self._see_through, flow_run, deployment)
        if isinstance(begun, Exception):
            return
        await asyncio.sleep(_HEAD_START_S)
        try:
            await self.client.update_flow_run(flow_run.id, infrastructure_pid=str(begun))
            await self._give_worker_labels_to_flow_run(flow_run.id)
        except httpx.HTTPError as error:
            logger.warning("Prefect does not know the process of %s: %s", flow_run.id, error)

    async def _see_through(
        self,
        flow_run: FlowRun,
        deployment: DeploymentResponse | None,
        *,
        task_status: anyio.abc.TaskStatus[int | Exception],
    ) -> None:
        """Make the run, from its configuration to the end of its process."""
        told = _Once(task_status)
        try:
            configuration = await self.job_configuration.resolve_for_flow_run(
                flow_run,
                client=self._flows,
                work_pool=self.work_pool.model_copy(deep=True),
                worker_name=self.name,
                worker_id=self.backend_id,
                deployment=deployment,
            )
            submitted = self._emit_flow_run_submitted_event(configuration)
            result = await self.run(flow_run, configuration, told)
            if submitted is not None:
                self._emit_flow_run_executed_event(result, configuration, submitted)
        except Exception as error:
            logger.exception("run %s could not be made", flow_run.id)
            if not told.done and not await self._canceller.settle(flow_run.id, Exit(None)):
                text = f"it could not be started: {type(error).__name__}: {error}"
                await self._propose_crashed_state(flow_run, text)
            told.started(error)
        finally:
            self._under_way.discard(flow_run.id)
            self._release_limit_slot(flow_run.id)
            self._expected.heard(None)  # others may have waited for its end

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: Any = None,
    ) -> ProcessWorkerResult:
        """Run a flow run in a process; put its start and its end on record."""
        if not isinstance(configuration, SmartOpsJobConfiguration):
            raise TypeError("the configuration is one of another worker type")
        http: Any = self.client._client
        recipe = configuration.recipe(self._result_storage, csrf=http.enable_csrf_support)
        claim = self._claims.pop(flow_run.id, None) or uuid7()
        ended: Exit | None = None
        pid: int | None = None

        def over(exited: Exit) -> None:
            nonlocal ended
            ended = exited
            body = {"exit_status": exited.status, "cause": exited.cause, **vars(exited.swept)}
            record("process.exited", flow_run.id, claim, **body)

        async def execute(*, task_status: anyio.abc.TaskStatus[ProcessHandle]) -> None:
            await executor.submit(task_status=task_status)

        try:
            async with self._host.context() as context:
                starter = WarmStarter(
                    self._nursery, context.control_channel, recipe, self._endings, over
                )
                executor = context.create_executor(
                    flow_run,
                    starter,
                    resolve_flow=load_flow_from_flow_run,
                    propose_submitting=False,
                )
                async with anyio.create_task_group() as group:
                    handle = await group.start(execute)
                    pid = handle.pid
                    record("process.started", flow_run.id, claim, pid=pid, worker=self.name)
                    if task_status is not None:
                        task_status.started(pid)
        finally:
            if ended is None:
                over(Exit(None))
        await self._canceller.settle(flow_run.id, ended)
        status = -1 if ended is None or ended.status is None else ended.status
        return ProcessWorkerResult(status_code=status, identifier=str(pid))


class _Once:
    """Tells once that a run has begun, or why not."""

    def __init__(self, inner: anyio.abc.TaskStatus[int | Exception]) -> None:
        self._inner = inner
        self.done = False

    def started(self, value: int | Exception) -> None:
        """Pass the word on."""
        if not self.done:
            self.done = True
            self._inner.started(value)


def in_turn(runs: list[WorkerFlowRunResponse]) -> list[WorkerFlowRunResponse]:
    """Return runs so that each deployment has its turn: a burst of one does not hold up the rest.

    The runs of one deployment keep their order, which is by when they are due.
    """
    place: dict[UUID | None, int] = {}
    ranked: list[tuple[int, WorkerFlowRunResponse]] = []
    for one in runs:
        rank = place[one.flow_run.deployment_id] = place.get(one.flow_run.deployment_id, -1) + 1
        ranked.append((rank, one))
    return [one for _, one in sorted(ranked, key=lambda pair: pair[0])]
