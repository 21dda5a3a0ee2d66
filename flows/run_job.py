"""Runs any job: the flow behind every deployment of a job file and behind the form in the UI."""

from __future__ import annotations

from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext

from flows.walk import StepOutcome, walk
from smartops.audit import recording
from smartops.audit.recording import RunInfo, recorded_run, step_state
from smartops.audit.run_end import ship_own_records_async
from smartops.errors import PermanentError, UnknownOutcome
from smartops.jobs import graph
from smartops.jobs.revision import canonical_job, revision_of
from smartops.jobs.spec import JobSpec
from smartops.jobs.step import StepBase
from tasks import catalogue
from tasks.run_context import current_run
from tasks.step import as_json


class JobFailed(PermanentError):
    """A job with at least one failed step."""


def _run_name() -> str:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return "run-job"
    job = (context.parameters or {}).get("job")
    name = job.name if isinstance(job, JobSpec) else "run-job"
    return f"{name}-{str(context.flow_run.id)[:8]}"


@flow(name="run-job", flow_run_name=_run_name, persist_result=False, retries=0)
async def run_job(job: JobSpec, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a job: its steps in the order of what they need, in parallel where they can.

    Args:
        job: The job: a name and a list of steps.
        params: Values for the job's parameters, by name.

    Returns the output of each step by its id. Raises JobFailed, or UnknownOutcome when a person
    has to find out what an effect did.
    """
    foreign = current_run()
    if foreign is None:
        raise RuntimeError("run_job is a Prefect flow")
    _refuse_repetition()
    info = RunInfo(
        id=foreign.id,
        job=job.name,
        flow=foreign.flow,
        kind="job",
        deployment=foreign.deployment,
        params=params or {},
        revision=revision_of(job),
        spec=canonical_job(job),
        requested_by=foreign.requested_by,
    )
    try:
        with recorded_run(info):
            return await _run(job, info, params or {})
    finally:
        await ship_own_records_async()


def _refuse_repetition() -> None:
    """Raise when this run has run before: Prefect's "retry" would make every effect again."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    if run is not None and run.run_count > 1:
        raise PermanentError(
            "this run has run before, and running it again would repeat its effects",
            hint="Start a new run of the job.",
        )


async def _run(job: JobSpec, info: RunInfo, given: dict[str, Any]) -> dict[str, Any]:
    logger = get_run_logger()
    plan = graph.compile(job)
    params = job.resolve_params(given)
    outputs: dict[str, Any] = {}
    states: dict[str, State[Any]] = {}

    def names() -> dict[str, Any]:
        return {
            "steps": outputs,
            "params": params,
            "run": {"id": str(info.id), "job": job.name},
        }

    async def start(step: StepBase) -> StepOutcome:
        task: Any = catalogue.task_for(step, names, unrecorded_reads=job.read_when_journal_full)
        needed = [states[name] for name in sorted(plan.needs[step.id])]
        state: State[Any] = await task(return_state=True, wait_for=needed)
        states[step.id] = state
        result = await state.aresult(raise_on_failure=False)
        if isinstance(result, BaseException):
            return StepOutcome(step_state(result), error=result)
        outputs[step.id] = as_json(result)
        return StepOutcome("completed", outputs[step.id])

    logger.info("job %s, revision %s", job.name, (info.revision or "")[:12])
    outcomes = await walk(plan, start)
    for step_id, outcome in outcomes.items():
        if outcome.state == "skipped":
            why = f"it needs {outcome.skipped_for}, which did not succeed"
            logger.warning("step %s was skipped: %s", step_id, why)
            step = plan.step(step_id)
            effect = catalogue.effect_if_skipped(step)
            recording.skip_step(info, step=step_id, kind=step.kind, effect=effect, why=why)
    _judge(job, outcomes)
    return outputs


def _judge(job: JobSpec, outcomes: dict[str, StepOutcome]) -> None:
    """Raise the error of the job, if it has one."""
    unknown = {n: o for n, o in outcomes.items() if o.state == "unknown_outcome"}
    failed = unknown or {n: o for n, o in outcomes.items() if o.error is not None}
    if not failed:
        return
    reasons = "; ".join(f"{n}: {recording.describe(o.error)}" for n, o in failed.items() if o.error)
    if unknown:
        raise UnknownOutcome(f"job {job.name} needs a decision: {reasons}")
    raise JobFailed(f"job {job.name} failed at {reasons}")
