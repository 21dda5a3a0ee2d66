"""What a forked child need not wait for, though Prefect's engine would.

Each of these is a piece of Prefect that costs a start some ten milliseconds: what it finds out is
known already, or can be found out beside the run. But for the certificates, they are in force in
forked children alone.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import flow_engine, results
from prefect._flow_run_suspension import observe_flow_run_suspension
from prefect.client.orchestration import get_client
from prefect.client.orchestration._flow_runs.client import FlowRunAsyncClient
from prefect.events import related
from prefect.settings import get_current_settings
from prefect.types._datetime import now

from services import found_once

if TYPE_CHECKING:
    from prefect._flow_run_suspension import FlowRunSuspensionRequest

    from services.zygote import Known


def share_certificates() -> None:
    """Read the certificates of authorities before the fork, so that no child has to."""
    found_once.certificates()
    with get_client(sync_client=True):
        pass


def take(known: Known) -> None:
    """Take from the worker what it has asked the server already."""
    block = UUID(known.result_storage) if known.result_storage else None
    results._read_server_default_result_storage_block_id = lambda: block
    if not known.csrf:
        get_current_settings().client.csrf_support_enabled = False
    for kind, one in known.related.items():
        named: Any = SimpleNamespace(**{**one, "id": UUID(one["id"])})
        entry: tuple[Any, Any] = ({"kind": kind, "object": named}, now("UTC"))
        related.RESOURCE_CACHE[f"{kind}.{one['key']}"] = entry


def name_at_once() -> None:
    """Send what the engine tells of a run before it begins in one request: two would take turns.

    That is the version of its flow and its policy, and then its name. Where the name never comes,
    the first goes before the next state of the run.
    """
    update, propose = FlowRunAsyncClient.update_flow_run, FlowRunAsyncClient.set_flow_run_state
    held: dict[str, Any] = {}

    def taken() -> dict[str, Any]:
        changes = dict(held)
        held.clear()
        return changes

    async def update_later(client: Any, flow_run_id: UUID, **changes: Any) -> Any:
        if changes.keys() == {"flow_version", "empirical_policy"}:
            held.update(changes)
            return None
        return await update(client, flow_run_id, **changes)

    async def give_name(client: Any, flow_run_id: UUID, name: str) -> Any:
        return await update(client, flow_run_id, name=name, **taken())

    async def go_on(client: Any, flow_run_id: Any, *args: Any, **kwargs: Any) -> Any:
        if held:
            await update(client, flow_run_id, **taken())
        return await propose(client, flow_run_id, *args, **kwargs)

    for name, method in (
        ("update_flow_run", update_later),
        ("set_flow_run_name", give_name),
        ("set_flow_run_state", go_on),
    ):
        setattr(FlowRunAsyncClient, name, method)


def observe_beside() -> None:
    """Begin a run before the connection stands by which it hears that it is to be suspended.

    Whoever suspends a run is heard a moment later then, as the state is read when it stands.
    """
    flow_engine.__dict__["observe_flow_run_suspension"] = _observed_beside


@contextmanager
def _observed_beside(
    run: UUID, request: FlowRunSuspensionRequest, polling_interval: float = 10
) -> Iterator[None]:
    left = threading.Event()

    def watch() -> None:
        with observe_flow_run_suspension(run, request, polling_interval):
            left.wait()

    beside = threading.Thread(
        target=contextvars.copy_context().run, args=(watch,), name="suspension", daemon=True
    )
    beside.start()
    try:
        yield
    finally:
        left.set()
        beside.join(timeout=2)
