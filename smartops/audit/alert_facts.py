"""Which events are facts that alerts are made of. Pure: the projection writes them down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

FactKind = Literal["ended", "waits", "resumed", "slot", "device", "quality", "verified"]
FACTS: dict[str, FactKind] = {
    "run.ended": "ended",
    "slot": "slot",
    "device": "device",
    "quality": "quality",
    "audit.verified": "verified",
}
"""Events that are facts whatever they say; the last two need not show anywhere else."""


def kind_of(event: str, body: Mapping[str, Any], was_suspended: bool) -> FactKind | None:
    """Return what an event is to alerts, None where it is nothing to them.

    ``was_suspended`` says whether its run had left its process before.
    """
    if event == "run.suspended":
        return "waits" if body.get("state") == "needs_decision" else None
    if event == "run.started":
        return "resumed" if was_suspended else None
    return FACTS.get(event)
