"""Runs any job: the flow behind every deployment of a job file and behind the form in the UI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.states import Cancelled

from flows import taking_up
from flows.job_run import JobRun
from flows.taking_up import Resume
from smartops import redact
from smartops.audit.journal import get_journal
from smartops.audit.progress import Kept, Progress
from smartops.audit.recording import RunCancelled, RunInfo, recorded_run
from smartops.audit.run_end import ship_own_records_async
from smartops.drivers.browser_warm import kept_warm
from smartops.errors import BadInput, PermanentError
from smartops.jobs import graph
from smartops.jobs.revision import canonical_job, revision_of
from smartops.jobs.spec import JobSpec
from tasks.job import leave_outputs
from tasks.run_context import current_run, parent_of_run, slot_made_up


def _run_name() -> str:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return "run-job"
    job = (context.parameters or {}).get("job")
    name = job.name if isinstance(job, JobSpec) else "run-job"
    return f"{name}-{str(context.flow_run.id)[:8]}"


@flow(name="run-job", flow_run_name=_run_name, persist_result=False, retries=0)
async def run_job(
    job: JobSpec,
    params: dict[str, Any] | None = None,
    resume: Resume | None = None,
    rehearse: bool = False,
) -> dict[str, Any] | State[Any]:
    """Run a job: its steps in the order of what they need, in parallel where they can.

    Args:
        job: The job: a name and a list of steps.
        params: Values for the job's parameters, by name.
        resume: Take up a run of the job that has ended: what succeeded in it is kept.
        rehearse: Run against the simulated plant only; nothing else can be reached.

    Returns the job's outputs; where it names none, the output of each step by its id. Raises
    JobFailed, or UnknownOutcome when a person has to find out what an effect did.
    """
    foreign = current_run()
    if foreign is None:
        raise RuntimeError("run_job is a Prefect flow")
    info = RunInfo(
        id=foreign.id,
        job=job.name,
        flow=foreign.flow,
        kind="job",
        deployment=foreign.deployment,
        params=params or {},
        revision=revision_of(job),
        spec=canonical_job(job),
        parent=parent_of_run(),
        resumes=resume.run if resume else None,
        rehearsal=rehearse,
        requested_by=foreign.requested_by,
    )
    history = _history_of_this_run(info)
    try:
        with recorded_run(info) as ending:
            if not history and (slot := slot_made_up()) is not None:
                get_journal().append(slot)
            plan = graph.compile(job)
            kept = taking_up.last_of_each(history)
            if resume is not None and not history:
                kept = _kept_of_earlier(plan, resume, info.params, rehearsal=rehearse)
                for one in kept.values():  # whoever takes up this run has to find it all here
                    Progress(info.id).keep(one)
            async with kept_warm():
                made = await JobRun(plan, info, history=history, kept=kept).make(ending)
            ending.output = made if job.outputs else None
            if info.parent is not None and job.outputs:
                await leave_outputs(info.id, redact.scrub(made))
            return dict(made)
    except RunCancelled as error:
        return Cancelled(message=str(error))
    finally:
        await ship_own_records_async()


def _history_of_this_run(info: RunInfo) -> list[Kept]:
    """Return what this run achieved before it waited for a person.

    Raises PermanentError for one that has ended: Prefect's "retry" would make every effect again.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    # Prefect does not count it as another run when one goes on after a question.
    has_waited = run is not None and bool(run.empirical_policy.pause_keys)
    if run is None or (run.run_count <= 1 and not has_waited):
        return []
    history = taking_up.load_history(info.id)
    if taking_up.last_question(history) is None:
        raise PermanentError(
            "this run has run before, and running it again would repeat its effects",
            hint=f"Take it up with `smartops run resume {info.id}`, or start a new run of the job.",
        )
    return history


def _kept_of_earlier(
    plan: graph.Plan, resume: Resume, params: Mapping[str, Any], *, rehearsal: bool
) -> dict[str, Kept]:
    earlier = taking_up.load_earlier(resume.run)
    if earlier.rehearsal != rehearsal:
        raise BadInput("a rehearsal cannot be taken up by a real run, nor the other way round")
    if earlier.job != plan.job.name:
        raise BadInput(f"run {resume.run} is one of job {earlier.job}, not of {plan.job.name}")
    now = redact.scrub(dict(params))
    # What a person has approved was approved for the job as it was, and for its values.
    same = earlier.revision == revision_of(plan.job) and all(
        now.get(name, param.default) == earlier.params.get(name, param.default)
        for name, param in plan.job.params.items()
    )
    return taking_up.kept_for(
        plan,
        earlier.history,
        resume.from_step,
        earlier.decided,
        same_params=same,
        run=str(resume.run)[:8],
    )
