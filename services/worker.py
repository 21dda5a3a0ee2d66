"""The work pool type ``smartops``: runs each flow run in a process of its own.

Registered by entry point, so that ``prefect worker start --pool smartops --type smartops`` and the
form for work pools know it. What the worker takes, starts and sees end is on record, so that a run
whose worker died is told from one that goes on.
"""

from __future__ import annotations

import logging
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import WorkerFlowRunResponse
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.workers.process import (
    ProcessJobConfiguration,
    ProcessWorker,
    ProcessWorkerResult,
)
from uuid6 import uuid7

from services import copies, gate
from smartops.audit.events import Event, EventType
from smartops.audit.journal import get_journal
from smartops.errors import JournalUnavailable

logger = logging.getLogger(__name__)


class SmartOpsJobConfiguration(ProcessJobConfiguration):
    """How a run is started. Jobs are installed code, so no workspace is prepared for them."""

    def prepare_for_flow_run(self, *args: Any, **kwargs: Any) -> None:
        """Start the engine directly, in the worker's folder, where its ``.env`` is.

        Prefect's own default starts a second interpreter first, to fetch and unpack code.
        """
        if self.command is None:
            self.command = f"{shlex.quote(sys.executable)} -m prefect.engine"
        if self.working_dir is None:
            self.working_dir = Path.cwd()
        super().prepare_for_flow_run(*args, **kwargs)


class _Started:
    """Puts the process's id on record when the executor says that it has started."""

    def __init__(self, inner: Any, claim: UUID, run_id: UUID, worker: str) -> None:
        self._worker = worker
        self._inner = inner
        self._claim = claim
        self._run_id = run_id

    def started(self, pid: int) -> None:
        """Pass the word on."""
        _record("process.started", self._run_id, self._claim, pid=pid, worker=self._worker)
        if self._inner is not None:
            self._inner.started(pid)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class SmartOpsWorker(ProcessWorker):
    """The worker of the pool type ``smartops``."""

    type = "smartops"
    job_configuration = SmartOpsJobConfiguration
    _display_name = "SmartOps"
    _description = "Runs SmartOps jobs and audited flows, each in a process of its own."
    _logo_url = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._claims: dict[UUID, UUID] = {}
        self._not_before: dict[UUID, datetime] = {}
        """Runs that are not due yet, and may not start early."""
        self._complete: set[UUID] = set()
        """Deployments that are known to have what starts them."""

    async def _submit_scheduled_flow_runs(
        self, flow_run_response: list[WorkerFlowRunResponse]
    ) -> list[FlowRun]:
        """Take runs that are due; those that may not start early are not asked for till then."""
        now = datetime.now(UTC)
        self._not_before = {run: due for run, due in self._not_before.items() if due > now}
        ready = [one for one in flow_run_response if one.flow_run.id not in self._not_before]
        return await super()._submit_scheduled_flow_runs(ready)

    async def _submit_run(self, flow_run: FlowRun) -> None:
        """Take a run: say so on record before Prefect hears of it.

        Without a record there is no run: it stays scheduled until the journal has room, unless its
        job says that it may read off the record.
        """
        if not await self._may_start(flow_run):
            self._not_before[flow_run.id] = gate.due_at(flow_run)
            self._leave(flow_run)
            return
        claim = uuid7()
        recorded = _record("process.claimed", flow_run.id, claim, worker=self.name)
        if not recorded and not _may_go_unrecorded(flow_run):
            self._leave(flow_run)
            return
        self._claims[flow_run.id] = claim
        try:
            await super()._submit_run(flow_run)
        except (httpx.HTTPError, PrefectHTTPStatusError) as error:
            logger.warning("run %s could not be taken, and is tried again: %s", flow_run.id, error)
        finally:
            if self._claims.pop(flow_run.id, None) is not None:  # it never came to `run`
                _record("process.exited", flow_run.id, claim, exit_status=None)
                self._leave(flow_run)

    async def _may_start(self, flow_run: FlowRun) -> bool:
        """Return whether the job's policies let a run start now; not, where nobody can tell."""
        try:
            if flow_run.deployment_id and flow_run.deployment_id not in self._complete:
                try:
                    deployment = await self.client.read_deployment(flow_run.deployment_id)
                except ObjectNotFound:
                    return True  # the base class ends it
                await copies.complete(self.client, deployment)
                self._complete.add(flow_run.deployment_id)
            return await gate.ask(self.client, flow_run)
        except (httpx.HTTPError, PrefectHTTPStatusError, ObjectNotFound) as error:
            logger.warning(
                "run %s waits: its job's policies cannot be asked: %s", flow_run.id, error
            )
            return False

    def _leave(self, flow_run: FlowRun) -> None:
        """Leave a run to the next poll, as the base class leaves one that it may not submit."""
        self._release_limit_slot(flow_run.id)
        self._submitting_flow_run_ids.discard(flow_run.id)
        if self._cancelling_observer is not None:
            self._cancelling_observer.remove_in_flight_flow_run_id(flow_run.id)

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: Any = None,
    ) -> ProcessWorkerResult:
        """Run a flow run in a process; put its start and its end on record."""
        claim = self._claims.pop(flow_run.id, None) or uuid7()
        status: int | None = None
        try:
            told = _Started(task_status, claim, flow_run.id, self.name)
            result = await super().run(flow_run, configuration, told)  # type: ignore[arg-type]
            status = result.status_code
        finally:
            _record("process.exited", flow_run.id, claim, exit_status=status)
        return result


def _may_go_unrecorded(flow_run: FlowRun) -> bool:
    job = (flow_run.parameters or {}).get("job")
    return isinstance(job, dict) and bool(job.get("read_when_journal_full"))


def _record(event: EventType, run_id: UUID, claim: UUID, **body: Any) -> bool:
    """Put it on record; return whether the journal took it."""
    try:
        intent = event == "process.claimed"
        get_journal().append(Event(event, run_id, {"claim_id": str(claim), **body}), intent=intent)
    except JournalUnavailable as error:
        logger.warning("%s", error.one_line)
        return False
    return True
