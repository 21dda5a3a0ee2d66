"""What a forked child does: it becomes the process of one flow run, as ``prefect.engine`` is.

All that a process settles when it starts is settled here anew: settings, logging, the run that it
is for. The engine's own entry reads the run from the API once more, with a client that it makes
for that; the worker has just read it, so it comes with the order.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefect._internal.control_listener import configure_from_env
from prefect._internal.metrics import RunMetrics
from prefect.client.schemas.actions import FlowRunUpdate, LogCreate
from prefect.client.schemas.objects import ConcurrencyLeaseHolder
from prefect.context import refresh_global_settings_context
from prefect.engine import _drive_run_flow_result, handle_engine_signals
from prefect.events import Event
from prefect.events.filters import EventFilter
from prefect.flow_engine import load_flow, run_flow
from prefect.flows import load_flow_from_entrypoint
from prefect.logging.configuration import setup_logging
from prefect.logging.loggers import flow_run_logger

from services import patience, shortcuts, signal_groups
from services.zygote import ENTRYPOINT, Known
from smartops.settings import get_settings

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun
    from prefect.flows import Flow


_prefect_as_forked: dict[str, str] = {}
_MODELS = (ConcurrencyLeaseHolder, Event, EventFilter, FlowRunUpdate, LogCreate)
"""What each run sends to Prefect's server, or asks it for."""


def prepare() -> None:
    """Do before the fork what no child has to do again then."""
    _prefect_as_forked.update(_of_prefect(os.environ))
    shortcuts.share_certificates()
    for model in _MODELS:  # pydantic leaves that to their first use
        model.model_rebuild()


def _of_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    """Return Prefect's settings in an environment; those with two underscores are of one run."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith("PREFECT_") and not name.startswith("PREFECT__")
    }


def run(flow_run: FlowRun, known: Known) -> int:
    """Make the run; return the exit status. Raises what the engine's own process dies of."""
    get_settings.cache_clear()
    if _of_prefect(os.environ) != _prefect_as_forked:
        refresh_global_settings_context()
        setup_logging()
    shortcuts.take(known)
    shortcuts.observe_beside()
    patience.wait_for_prefect()
    signal_groups.know_signals_in_groups()
    configure_from_env()
    with handle_engine_signals(flow_run.id):
        logger: Any = flow_run_logger(flow_run=flow_run)
        try:
            flow = _flow(flow_run)
        except Exception:
            logger.error("the flow cannot be loaded", exc_info=True)
            raise
        if flow.flow_run_name:
            shortcuts.name_at_once()
        with RunMetrics(flow_run, flow):
            _drive_run_flow_result(flow, run_flow(flow, flow_run=flow_run, error_logger=logger))
    return 0


def _flow(flow_run: FlowRun) -> Flow[..., Any]:
    entrypoint = os.environ.pop(ENTRYPOINT, None)
    if entrypoint is None:
        return load_flow(flow_run)
    return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
