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
from typing import TYPE_CHECKING
from uuid import UUID

from prefect import flow_engine, results
from prefect._flow_run_suspension import observe_flow_run_suspension
from prefect.client.orchestration import get_client

from services import found_once

if TYPE_CHECKING:
    from prefect._flow_run_suspension import FlowRunSuspensionRequest


def share_certificates() -> None:
    """Read the certificates of authorities before the fork, so that no child has to."""
    found_once.certificates()
    with get_client(sync_client=True):
        pass


def know_result_storage(block: UUID | None) -> None:
    """Take where results are kept by default from the worker, which has asked the server."""
    results._read_server_default_result_storage_block_id = lambda: block


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
