"""Tells that a device is left alone, or answers again: on record, as an alert, and to Prefect."""

from __future__ import annotations

import contextlib

from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.settings import PREFECT_API_URL

from smartops.audit import recording
from smartops.drivers.quarantine import Change


def quarantine_changed(change: Change) -> None:
    """Put it on record, and emit ``smartops.device.quarantined`` or ``.back``. It never raises."""
    recording.device_changed(change)
    in_a_run = FlowRunContext.get() is not None or TaskRunContext.get() is not None
    if not in_a_run and not PREFECT_API_URL.value():
        return  # an event would start a server of its own
    with contextlib.suppress(Exception):  # it stands on record; Prefect may be away
        emit_event(
            event=f"smartops.device.{change.state}",
            resource={
                "prefect.resource.id": f"smartops.device.{change.device}",
                "prefect.resource.name": change.device,
            },
            payload={
                "resource": change.resource,
                "part": change.part,
                "failures": change.failures,
                "reason": change.reason,
                "since": change.since.isoformat(),
            },
        )
