"""What a person does with a run: answer it, decide on it, cancel it, take it up again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelling

from flows import asking
from flows.taking_up import Resume, kept_for, load_earlier
from reports.runs import RunDetail
from services.prefect_api import TEMPLATE, deployment_named, end_in_order, prefect
from smartops.audit.events import Event
from smartops.audit.history import decision_asked, doubtful_steps, is_whole, list_resumes
from smartops.audit.journal import get_journal
from smartops.audit.revisions import spec_on_record
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.jobs import graph
from smartops.jobs.answers import Answer, Decision, check_answer
from smartops.jobs.kinds.approval import Approval
from smartops.jobs.param import from_texts
from smartops.people import who_is_here
from tasks.run_context import CANCELLED_BY, REQUESTED_BY

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

_FORM_S = 20.0
"""How long Prefect may take to keep the form of a run that it calls paused already."""


async def _read(client: PrefectClient, run_id: UUID) -> FlowRun:
    try:
        return await client.read_flow_run(run_id)
    except ObjectNotFound:
        raise BadInput(f"Prefect knows no run {run_id} any more") from None


# --- answers ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class OpenQuestion:
    """What a run waits for: an approval where ``approval`` is given, else a decision."""

    step: str
    text: str
    approval: Approval | None


def open_question(store: Store, detail: RunDetail) -> OpenQuestion | None:
    """Return what a run waits for, None where it waits for nobody. Raises StoreUnavailable."""
    run = detail.run
    if run.ended_at is not None or run.state not in {"suspended", "needs_decision"}:
        return None
    if run.state == "needs_decision":
        step = decision_asked(run.message)
        return OpenQuestion(step, run.message.partition(": ")[2], None) if step else None
    asked = [a for a in detail.approvals if a.state in {"asked", "granted", "denied", "expired"}]
    waiting = asked[-1] if asked and asked[-1].state == "asked" else None
    spec = spec_on_record(store, run.revision) if run.revision else None
    if waiting is None or spec is None:
        return None
    asks = next((s for s in spec.steps if s.id == waiting.step), None)
    return OpenQuestion(asks.id, waiting.subject, asks) if isinstance(asks, Approval) else None


async def answer_approval(store: Store, detail: RunDetail, answer: Answer) -> str:
    """Answer the approval that a run waits for; return the step's id.

    Raises BadInput when it waits for none, or when the answer does not count: nothing is changed.
    """
    question = open_question(store, detail)
    if question is None or question.approval is None:
        raise BadInput(f"run {detail.run.run_id} waits for no approval: it is {detail.run.state}")
    answer = replace(answer, values=from_texts(question.approval.form, answer.values))
    checked = check_answer(question.approval, answer, detail.run.requested_by)
    await _send(detail.run.run_id, question.step, asking.response_to(checked))
    return question.step


async def decide(store: Store, detail: RunDetail, step: str, decision: Decision) -> str:
    """Say what became of an effect in doubt; return what happens now, in words.

    A run that waits goes on. For one that has ended it is put on record, for taking it up again.
    """
    doubtful = {kept.step for kept in doubtful_steps(store, detail.run.run_id)}
    if step not in doubtful:
        known = ", ".join(sorted(doubtful)) or "none"
        raise BadInput(
            f"step {step!r} of run {detail.run.run_id} is not in doubt (in doubt: {known})"
        )
    question = open_question(store, detail)
    if question is not None:
        if question.step != step:
            raise BadInput(f"the run waits for a decision on step {question.step} first")
        await _send(detail.run.run_id, step, vars(decision))
        return "the run goes on"
    body = {"step": step, **vars(decision)}
    get_journal().append(Event("decision", detail.run.run_id, body))
    return f"take the run up with `smartops run resume {str(detail.run.run_id)[:8]}`"


async def _send(run_id: UUID, step: str, response: Mapping[str, Any]) -> None:
    """Send a filled-in form to a run that waits for it, and for nothing else."""
    async with prefect() as client:
        run = await _read(client, run_id)
        if run.state is None or not run.state.is_paused():
            name = run.state.name if run.state else "unknown"
            raise BadInput(f"run {run_id} does not wait for an answer: in Prefect it is {name}")
        key = run.state.state_details.pause_key or ""
        if key.rpartition("-")[0] != asking.key_name(step):
            raise BadInput(
                f"run {run_id} waits for an answer about another step", hint="Look again."
            )
        until = time.monotonic() + _FORM_S
        while True:
            sent = await client.resume_flow_run(run_id, run_input=dict(response))
            if sent.status is SetStateStatus.ACCEPT:
                return
            reason = getattr(sent.details, "reason", None) or "no reason given"
            if "schema not found" not in reason or time.monotonic() > until:
                raise BadInput(f"Prefect does not take the answer: {reason}")
            await asyncio.sleep(0.2)


# --- cancelling and taking up -----------------------------------------------------------------


async def cancel(run_id: UUID, person: str) -> str:
    """Cancel a run: what can be undone is. Returns what happens now, in words. Raises BadInput."""
    async with prefect() as client:
        await _read(client, run_id)
        said = await stop(client, run_id, person, f"cancelled by {person}")
    if said is None:
        raise BadInput(f"run {run_id} has ended, or ends already")
    return said


async def stop(client: PrefectClient, run_id: UUID, person: str, message: str) -> str | None:
    """End a run in order; return what happens now, None where it ends already or is gone.

    One that waits for a person is given a process, which takes back what was made.
    """
    try:
        run = await client.read_flow_run(run_id)
    except ObjectNotFound:
        return None
    state = run.state
    if state is None or state.is_final() or state.is_cancelling():
        return None
    waits = state.is_paused() and state.state_details.pause_reschedule
    answered = state.is_scheduled() and bool(run.empirical_policy.pause_keys)
    if waits or answered:
        await end_in_order(client, run_id, person, message)
        return "it waited for a person; it takes back what can be undone, and ends"
    await client.update_flow_run_labels(run_id, {CANCELLED_BY: person})
    # Prefect itself makes this the end where no worker has taken it yet: what was read just now may
    # not be true any more.
    await client.set_flow_run_state(run_id, Cancelling(message=message))
    now = (await client.read_flow_run(run_id)).state
    if now is not None and now.is_final() and run.run_count == 0:
        return "it had not begun, and will not"
    return "it ends what is under way, and takes back what can be undone"


async def resume(
    store: Store, detail: RunDetail, from_step: str | None, params: Mapping[str, Any]
) -> UUID:
    """Take up a run that has ended, in a new run of the same revision; return its id.

    Raises BadInput when a step is in doubt, or there is nothing to take up.
    """
    run = detail.run
    if run.state == "completed" and from_step is None:
        raise BadInput(
            f"run {run.run_id} has succeeded", hint="Name the step to begin from: --from STEP."
        )
    earlier = load_earlier(run.run_id)
    spec = spec_on_record(store, run.revision) if run.revision else None
    if spec is None:
        raise BadInput(f"the revision of run {run.run_id} is not on record as it was")
    # The run itself will ask for it in the same way: what it would refuse is refused here.
    kept_for(
        graph.compile(spec), earlier.history, from_step, earlier.decided, run=str(run.run_id)[:8]
    )
    params = from_texts(spec.params, params)
    given = {**run.params, **params}
    for name, value in given.items():
        if name not in params and not is_whole(value):
            raise BadInput(
                f"parameter {name!r} is a secret or too long for the record",
                hint=f"Give it again: --set {name}=VALUE.",
            )
    taken_up = list_resumes(store, run.run_id)
    if any(ended is None for ended in taken_up.values()):
        raise BadInput(f"run {run.run_id} is being taken up already, by {next(iter(taken_up))}")
    spec.resolve_params(dict(given))
    async with prefect() as client:
        deployment = run.deployment and await _exists(client, UUID(run.deployment))
        if not deployment:
            deployment = (await deployment_named(client, TEMPLATE)).id
        wanted = Resume(run=run.run_id, from_step=from_step)
        started = await client.create_flow_run_from_deployment(
            deployment,
            parameters={
                "job": spec.document(),
                "params": given,
                "resume": wanted.model_dump(mode="json"),
                "rehearse": run.rehearsal,
            },
            idempotency_key=f"resume-{run.run_id}-{len(taken_up)}",
            labels={REQUESTED_BY: who_is_here()},
        )
        return started.id


async def _exists(client: PrefectClient, deployment: UUID) -> UUID | None:
    try:
        return (await client.read_deployment(deployment)).id
    except ObjectNotFound:
        return None
