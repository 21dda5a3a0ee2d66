"""Steps that run other jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import Counter
from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelling

from smartops.audit import recording
from smartops.errors import BadInput, ChildRunFailed, PrefectUnavailable, UnknownOutcome
from smartops.locks import held_here
from smartops.rehearsal import rehearsing
from smartops.vocabulary import Effect
from tasks.run_context import DEPTH, FLOW, LOCKS, PARENT, REQUESTED_BY, deployed_params
from tasks.step import current_record, step, task_run_id

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, State

logger = logging.getLogger(__name__)
OUTPUTS_KEY = "smartops-outputs"
"""Where the run of a child leaves its outputs in Prefect, for its parent."""
DEEPEST = 10
_ended: Counter[UUID] = Counter()
"""How many children of a step have ended, by its task run: the next attempt starts another one."""
_SHORTEST_POLL_S, _LONGEST_POLL_S = 0.2, 2.0
TIME_TO_CANCEL_S = 20.0
"""How long a step that is broken off waits for its child to end in order."""
_TRIES = 5


@step(effect=Effect.UNSAFE, kind="job")
async def run_child(job: str, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Start a run of a deployed job and wait for its end, however long people in it take.

    Returns ``run_id``, ``job``, ``state`` and ``outputs``. Raises BadInput, ChildRunFailed. When
    this is broken off, the child is cancelled.
    """
    record = current_record()
    record.touched = False
    depth = _depth() + 1
    if depth > DEEPEST:
        raise BadInput(f"jobs run jobs {DEEPEST} deep here; does {job} run itself?")
    try:
        async with get_client() as client:
            record.touched = True
            child = await _started(client, job, dict(params or {}), depth)
            try:
                state = await _end_of(client, child.id)
            except asyncio.CancelledError:
                await asyncio.shield(_cancel(client, child.id))
                raise
            if not state.is_completed():
                _ended[task_run_id()] += 1
            outputs = await _outputs(client, child.id) if state.is_completed() else {}
    except httpx.TransportError as error:
        raise PrefectUnavailable(
            f"Prefect's API does not answer ({type(error).__name__})"
        ) from error
    except PrefectHTTPStatusError as error:
        status, said = error.response.status_code, error.response.text[:300]
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise PrefectUnavailable(f"Prefect's API answers {status}: {said}") from error
        raise BadInput(f"Prefect refuses the run of {job}: {status} {said}") from error
    if not state.is_completed():
        word = (state.name or state.type.value).lower()
        raise ChildRunFailed(
            f"run {child.id} of {job} ended as {word}: {state.message or 'no reason given'}",
            hint=f"See `smartops run show {str(child.id)[:8]}`.",
        )
    return {"run_id": str(child.id), "job": job, "state": "completed", "outputs": outputs}


def _depth() -> int:
    context = FlowRunContext.get()
    labels = context.flow_run.labels if context and context.flow_run else {}
    return int(labels.get(DEPTH, 0))


async def _started(client: PrefectClient, job: str, params: dict[str, Any], depth: int) -> FlowRun:
    """Start the child's run, and put it on record; when this is broken off, the child ends too.

    Prefect may have made the run and not said so yet: its answer is waited for first.
    """
    record = current_record()
    starting = asyncio.create_task(_surely_start(client, job, params, depth))
    try:
        child = await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.shield(_take_back(client, starting, job))
        raise
    record.child(child.id, job)
    return child


async def _take_back(client: PrefectClient, starting: asyncio.Task[FlowRun], job: str) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + TIME_TO_CANCEL_S
    await asyncio.wait({starting}, timeout=TIME_TO_CANCEL_S)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
    if starting.cancelled() or starting.exception() is not None:
        return  # what could not be found out is said by the step's own outcome
    child = starting.result()
    current_record().child(child.id, job)
    await _cancel(client, child.id, until - loop.time())


async def _surely_start(
    client: PrefectClient, job: str, params: dict[str, Any], depth: int
) -> FlowRun:
    """Start the child's run; ask again where the answer was lost, which starts no second one.

    A busy Prefect may not know this step's task run yet, and refuses what is linked to it: in the
    end the child starts without that link; its labels name its parent all the same.
    Raises PrefectUnavailable where none was started, UnknownOutcome where nobody can tell.
    """
    record, lost = current_record(), ""
    for tried in range(1, _TRIES + 1):
        last = tried == _TRIES
        try:
            return await _start(client, job, params, depth, linked=not last)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            problem: Exception = error  # nothing was sent
        except httpx.TransportError as error:
            problem, lost = error, type(error).__name__
        except PrefectHTTPStatusError as error:
            status = error.response.status_code
            if status < HTTPStatus.INTERNAL_SERVER_ERROR:
                problem = error
                if lost:
                    break  # a run may have been started before, by a call whose answer was lost
                if status != HTTPStatus.CONFLICT or last:
                    raise
            else:
                problem, lost = error, f"status {status}"
        await asyncio.sleep(_SHORTEST_POLL_S * tried)
    if not lost:
        record.touched = False
        raise problem
    raise UnknownOutcome(
        f"Prefect's API did not answer whether it started job {job} ({lost})",
        hint="Look for a run of it in Prefect.",
    ) from problem


async def _start(
    client: PrefectClient, job: str, params: dict[str, Any], depth: int, *, linked: bool
) -> FlowRun:
    """Start the child's run: one for each attempt of this step, however often it is asked for."""
    try:
        deployment = await client.read_deployment_by_name(f"{FLOW}/{job}")
    except ObjectNotFound:
        raise BadInput(f"no job {job!r} is deployed") from None
    task_run, info = task_run_id(), recording.current_run()
    if info is None:
        raise RuntimeError("a step is made in a run")
    labels: dict[str, Any] = {
        PARENT: str(info.id),
        DEPTH: depth,
        LOCKS: json.dumps(dict(held_here())),
    }
    if info.requested_by:
        labels[REQUESTED_BY] = info.requested_by
    return await client.create_flow_run_from_deployment(
        deployment.id,
        parameters={
            **deployment.parameters,
            "params": {**deployed_params(deployment), **params},
            "rehearse": rehearsing.get(),
        },
        parent_task_run_id=task_run if linked else None,
        idempotency_key=f"{task_run}-{_ended[task_run]}",
        labels=labels,
    )


async def _end_of(client: PrefectClient, run_id: UUID) -> State[Any]:
    pause_s = _SHORTEST_POLL_S
    while True:
        with contextlib.suppress(httpx.TransportError, PrefectHTTPStatusError):
            # The child goes on while Prefect is away; the step's time limit ends the wait.
            run = await client.read_flow_run(run_id)
            if run.state is not None and run.state.is_final():
                return run.state
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.2, _LONGEST_POLL_S)


async def _cancel(client: PrefectClient, run_id: UUID, within_s: float = TIME_TO_CANCEL_S) -> None:
    """Cancel the child, and give it time to end in order."""
    with contextlib.suppress(TimeoutError):  # then whoever looks at the step sees its child
        async with asyncio.timeout(within_s):
            while True:
                try:
                    await client.set_flow_run_state(run_id, Cancelling())
                    break
                except (httpx.TransportError, PrefectHTTPStatusError) as error:
                    logger.warning("run %s cannot be cancelled yet: %s", run_id, error)
                    await asyncio.sleep(_LONGEST_POLL_S)
            await _end_of(client, run_id)


async def _outputs(client: PrefectClient, run_id: UUID) -> Any:
    """Return what a child gave, as soon as Prefect answers: it is not made again for that."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            return await _outputs_now(client, run_id)
        await asyncio.sleep(_LONGEST_POLL_S)


async def _outputs_now(client: PrefectClient, run_id: UUID) -> Any:
    try:
        return json.loads(await client.read_flow_run_input(run_id, OUTPUTS_KEY))
    except ObjectNotFound:
        return {}
    except PrefectHTTPStatusError as error:
        if error.response.status_code == HTTPStatus.NOT_FOUND:
            return {}
        raise


async def leave_outputs(run_id: UUID, outputs: Any) -> None:
    """Leave a run's outputs in Prefect, for the run whose step started it."""
    async with get_client() as client:
        await client.create_flow_run_input(
            flow_run_id=run_id, key=OUTPUTS_KEY, value=json.dumps(outputs)
        )
