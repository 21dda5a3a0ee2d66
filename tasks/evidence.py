"""Keeps what a step leaves as evidence: in the store, on record, and in Prefect as an artifact."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence

from prefect.context import FlowRunContext, TaskRunContext

from smartops import evidence_store
from smartops.audit.recording import StepRecord
from smartops.evidence_store import KeptFile
from tasks import artifacts


async def keep(record: StepRecord, files: Sequence[KeptFile]) -> Mapping[str, str]:
    """Bring files into the store and put them on record; return their places by their paths.

    It never raises for a store or a Prefect that is away.
    """
    places: dict[str, str] = {}
    for file in files:
        place = await asyncio.to_thread(evidence_store.put, file.path)
        places[str(file.path)] = place
        record.artifact(file.name, place, file.media_type, sha256=file.sha256, size=file.size)
    if files and (FlowRunContext.get() or TaskRunContext.get()):
        await _show_in_prefect(record.step, files, places)
    return places


async def _show_in_prefect(step: str, files: Sequence[KeptFile], places: Mapping[str, str]) -> None:
    rows = [
        f"| {file.name} | {file.media_type} | {file.size} | `{file.sha256}` | "
        f"`{places[str(file.path)]}` |"
        for file in files
    ]
    head = ["| file | type | bytes | SHA-256 | place |", "|---|---|---|---|---|"]
    key = f"evidence-{re.sub('[^a-z0-9]+', '-', step.lower()).strip('-') or 'step'}"
    await artifacts.show("\n".join([*head, *rows]), key, f"Evidence of step {step}")
