"""What runs wait for people to approve, as it stands in the audit store."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from reports.runs import get_run
from smartops.audit import models
from smartops.audit.store import Store
from smartops.errors import BadInput


@dataclass(frozen=True)
class OpenApproval:
    """A question that has no answer yet."""

    run_id: UUID
    job: str
    requested_by: str | None
    step: str
    text: str
    approvers: list[str]
    form: dict[str, dict[str, Any]]
    within_s: float | None
    asked_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        fields = asdict(self)
        return {**fields, "run_id": str(self.run_id), "asked_at": self.asked_at.isoformat()}


def open_approvals(store: Store, run_id: UUID | None = None) -> list[OpenApproval]:
    """Return the open questions of all runs, or of one, the oldest first."""
    run, approval = models.job_run, models.approval
    query = (
        sa.select(run.c.job, run.c.requested_by, approval)
        .join(approval, approval.c.run_id == run.c.id)
        .where(run.c.state == "suspended", run.c.ended_at.is_(None))
        .order_by(approval.c.at, approval.c.id)
    )
    if run_id is not None:
        query = query.where(run.c.id == run_id)
    waiting: dict[tuple[UUID, str], OpenApproval] = {}
    with store.reading() as connection:
        for row in connection.execute(query):
            key = (row.run_id, row.step)
            waiting.pop(key, None)
            if row.state == "asked":
                waiting[key] = _open(row)
    return list(waiting.values())


def _open(row: sa.Row[Any]) -> OpenApproval:
    asked = json.loads(row.question or "{}")
    return OpenApproval(
        run_id=row.run_id,
        job=row.job,
        requested_by=row.requested_by,
        step=row.step,
        text=asked.get("text", row.subject),
        approvers=asked.get("approvers", []),
        form=asked.get("form", {}),
        within_s=asked.get("within_s"),
        asked_at=row.at,
    )


def open_approval(store: Store, run_id: str) -> OpenApproval:
    """Return what a run waits for. Raises StoreUnavailable; BadInput where it waits for nothing."""
    run = get_run(store, run_id).run
    waiting = open_approvals(store, run.run_id)
    if not waiting:
        raise BadInput(f"run {run.run_id} waits for no approval: it is {run.state}")
    return waiting[0]
