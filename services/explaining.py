"""Says in words why a run waits, is stuck, did not start or failed, and what can be done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound

from reports.runs import RunDetail, get_run
from services.prefect_api import prefect
from services.run_control import open_question
from smartops import locks
from smartops.audit import lock_places
from smartops.audit.history import decisions_on_record, doubtful_steps
from smartops.audit.store import Store
from smartops.durations import format_duration
from smartops.errors import BadInput
from smartops.settings import get_settings

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun

_LIVELY = timedelta(seconds=90)
"""How long ago a worker may have spoken last: it does so every 30 s."""


async def explain(store: Store, run_id: str) -> list[str]:
    """Return sentences about a run, by its id or by the first part of one that has begun.

    Raises BadInput for a run that neither the record nor Prefect knows; PrefectUnavailable,
    StoreUnavailable.
    """
    detail = _on_record(store, run_id)
    async with prefect() as client:
        run = await _in_prefect(client, detail, run_id)
        if detail is None and run is None:
            raise BadInput(f"neither the record nor Prefect knows a run {run_id!r}")
        if detail is None or _not_begun(detail, run):
            assert run is not None  # noqa: S101 - one of them is there
            return await _before_it_began(client, run)
        if detail.run.ended_at is not None:
            return _after_its_end(store, detail)
        return _while_it_runs(store, detail)


def _on_record(store: Store, run_id: str) -> RunDetail | None:
    try:
        return get_run(store, run_id)
    except BadInput:
        return None


async def _in_prefect(client: PrefectClient, detail: RunDetail | None, text: str) -> FlowRun | None:
    try:
        return await client.read_flow_run(detail.run.run_id if detail else UUID(text))
    except (ObjectNotFound, ValueError):
        return None


def _not_begun(detail: RunDetail, run: FlowRun | None) -> bool:
    """Return whether a run that waited for a person is to go on, and has not yet."""
    waits = run is not None and run.state_type in {StateType.SCHEDULED, StateType.PENDING}
    return waits and detail.run.ended_at is None


# --- before -----------------------------------------------------------------------------------


async def _before_it_began(client: PrefectClient, run: FlowRun) -> list[str]:
    state = run.state
    if state is None:
        return ["Prefect has made the run and not scheduled it yet."]
    if state.is_final():
        name = (state.name or state.type.value).lower()
        return [f"It did not begin: in Prefect it is {name}. {state.message or ''}".rstrip()]
    if state.is_pending():
        return [
            f"A worker took it {_ago(state.timestamp)}, and its process is starting.",
            "If that lasts, look at the worker's log: `smartops status` says where it is.",
        ]
    due = run.next_scheduled_start_time or run.expected_start_time or state.timestamp
    if state.name == "AwaitingConcurrencySlot":
        return [f"It is held back: {state.message or 'a limit of Prefect is reached'}."]
    if due > datetime.now(UTC):
        return [f"It is scheduled: due at {due.astimezone():%Y-%m-%d %H:%M:%S %Z}."]
    return [f"It was due {_ago(due)}, and no worker has taken it.", *await _workers(client, run)]


async def _workers(client: PrefectClient, run: FlowRun) -> list[str]:
    pool = run.work_pool_name
    if pool is None:
        return ["Its deployment names no work pool, so no worker looks for it."]
    try:
        found = await client.read_work_pool(pool)
    except ObjectNotFound:
        return [f"The work pool {pool} does not exist any more."]
    if found.is_paused:
        return [f"The work pool {pool} is paused: `prefect work-pool resume {pool}`."]
    workers = await client.read_workers_for_work_pool(pool)
    now = datetime.now(UTC)
    lively = [w for w in workers if w.last_heartbeat_time and now - w.last_heartbeat_time < _LIVELY]
    if not lively:
        return [
            f"No worker of the pool {pool} has been heard of lately: start one with "
            "`smartops up --detach` or `prefect worker start --pool smartops --type smartops`."
        ]
    limit = f" (limit {found.concurrency_limit})" if found.concurrency_limit else ""
    names = ", ".join(worker.name for worker in lively)
    return [
        f"Workers of the pool {pool} live: {names}{limit}. They may be at their limit, or without "
        "room in their journal: look at their log."
    ]


# --- meanwhile --------------------------------------------------------------------------------


def _while_it_runs(store: Store, detail: RunDetail) -> list[str]:
    run = detail.run
    short = str(run.run_id)[:8]
    question = open_question(store, detail)
    if question is not None and question.approval is not None:
        who = ", ".join(question.approval.approvers) or "anybody"
        return [
            f"It waits for an approval of step {question.step}: {question.text}",
            f"May answer: {who}. `smartops approve grant {short}` or `deny`, or Resume in the UI.",
        ]
    if question is not None:
        return [
            f"It waits for a decision on step {question.step}: {question.text}",
            f"Look, and say: `smartops run decide {short} {question.step} done|not-done|retry`.",
        ]
    lines = [f"It runs since {_ago(run.started_at)}, in process {_process(detail)}."]
    under_way = [step for step in detail.steps if step.state == "running"]
    lines += [
        f"Step {step.id} ({step.kind}) is under way since {_ago(step.started_at)}"
        + (f", attempt {step.attempts}." if step.attempts > 1 else ".")
        for step in under_way
    ]
    if not under_way:
        lines.append("No step is under way: one waits to be tried again, or for a lock.")
    return [*lines, *_locks(store, run.run_id)]


def _process(detail: RunDetail) -> str:
    return f"{detail.run.pid} on {detail.run.host}"


def _locks(store: Store, run_id: UUID) -> list[str]:
    """Return for whom a run waits, and who waits for it, on this machine and among machines."""
    among_machines = get_settings().locks == "database"
    abroad = list(lock_places.queues(store)) if among_machines else []
    waits_abroad = {t.resource for queue in abroad for t in queue[1:] if t.actor.run == str(run_id)}
    lines: list[str] = []
    for queue in [*abroad, *locks.queues()]:
        lines += _waits(queue, run_id)
        holder, *waiting = queue
        has_it = holder.actor.run == str(run_id) and holder.resource not in waits_abroad
        if has_it and waiting:
            names = "; ".join(_named(ticket, holder) for ticket in waiting)
            lines.append(f"It holds {holder.resource}, for which wait: {names}.")
    return lines


def _named(ticket: locks.Ticket, beside: locks.Ticket) -> str:
    where = "" if ticket.host == beside.host else f" on {ticket.host}"
    return f"{locks.describe(ticket)}{where}"


def _waits(queue: Sequence[locks.Ticket], run_id: UUID) -> list[str]:
    """Return for whom a run waits in a queue."""
    holder, *waiting = queue
    lines = []
    for place, ticket in enumerate(waiting, start=1):
        if ticket.actor.run == str(run_id):
            step = f"step {ticket.actor.step}" if ticket.actor.step else "the run"
            lines.append(
                f"For {ticket.resource}, {step} waits for {_named(holder, ticket)}"
                f" (place {place} in the queue)."
            )
    return lines


# --- after ------------------------------------------------------------------------------------


def _after_its_end(store: Store, detail: RunDetail) -> list[str]:
    run, short = detail.run, str(detail.run.run_id)[:8]
    took = f" after {run.duration_s:.1f} s" if run.duration_s is not None else ""
    lines = [f"It ended as {run.state.replace('_', ' ')}{took}."]
    if run.message:
        lines.append(run.message)
    if detail.processes and (left := detail.processes[-1].left):
        lines.append(left)
    if run.state == "completed":
        return lines
    doubtful = doubtful_steps(store, run.run_id)
    decided = decisions_on_record(store, run.run_id, doubtful)
    for kept in doubtful:
        if kept.step in decided:
            lines.append(
                f"On step {kept.step}, {decided[kept.step].person} decided: "
                f"{decided[kept.step].verdict}."
            )
        else:
            lines.append(
                f"What step {kept.step} did is not known. Look, and say: "
                f"`smartops run decide {short} {kept.step} done|not-done|retry`."
            )
    if run.kind == "job":
        lines.append(f"Take it up where it stopped: `smartops run resume {short}`.")
    return lines


def _ago(moment: datetime) -> str:
    seconds = max(0, round((datetime.now(UTC) - moment).total_seconds()))
    return f"{format_duration(timedelta(seconds=seconds))} ago"
