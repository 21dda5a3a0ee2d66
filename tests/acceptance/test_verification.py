"""The scheduled verification of the record, in the running system: a tampered row is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from prefect.deployments.flow_runs import arun_deployment

from reports import audit_report
from reports.period import Period
from services.alert_judge import Judge
from services.stack import Stack
from smartops.alerts.policy import Policy
from smartops.audit import alert_book, alert_tables, models
from smartops.audit.migrations import guarding
from smartops.audit.store import Store
from tests.conftest import PREFECT_LEAVES_SOCKETS

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
RULES = Policy.model_validate(
    {
        "channels": {"ops": {"block": "alert-mail/ops"}},
        "rules": [{"name": "record-altered", "on": "verification", "severity": "critical"}],
        "routes": [{"name": "all", "channels": ["ops"]}],
    }
)


@pytest.fixture
def store(in_stack: Stack) -> Iterator[Store]:
    """The running system's own store."""
    found = Store(in_stack.settings.store_url)
    yield found
    found.close()


async def verify() -> tuple[UUID, str]:
    """Start the deployment as its schedule does; return its run and how that ended."""
    run: Any = await arun_deployment("audit-verification/audit-verification", timeout=240)
    assert run.state is not None
    return run.id, run.state.type.value


@contextmanager
def altered(store: Store, run_id: UUID) -> Iterator[None]:
    """Change the end of a run on record, and put it right again."""
    event = models.event
    mine = (event.c.run_id == run_id) & (event.c.type == "run.ended")

    def put(body: str) -> None:
        with store.transaction() as connection:
            guarding.unguard(connection, "event")
            connection.execute(sa.update(event).where(mine).values(body=body))
            guarding.guard(connection)

    with store.reading() as connection:
        body = connection.execute(sa.select(event.c.body).where(mine)).scalar_one()
    put(body.replace("completed", "cancelled"))
    try:
        yield
    finally:
        put(body)


def episodes(store: Store) -> list[Any]:
    table = alert_tables.alert_episode
    with store.reading() as connection:
        found = sa.select(table).where(table.c.rule == "record-altered")
        return list(connection.execute(found.order_by(table.c.raised_at)))


async def test_a_tampered_row_is_found_and_told(store: Store) -> None:
    """Deployed run, alert and audit report agree: whole, altered with the run's id, whole."""
    began = datetime.now(UTC)
    alert_book.switch_on(store, began)
    judge = Judge(store, RULES)
    whole, state = await verify()
    assert state == "COMPLETED"
    with altered(store, whole):
        looked, state = await verify()
    assert state == "FAILED"
    judge.judge(datetime.now(UTC))
    alert = episodes(store)[-1]
    assert (alert.state, alert.run_id) == ("open", looked)
    assert str(whole) in alert.details
    again, state = await verify()
    assert state == "COMPLETED"
    judge.judge(datetime.now(UTC))
    assert episodes(store)[-1].state == "ended"
    period = Period(began, datetime.now(UTC) + timedelta(seconds=1))
    document = audit_report.build(store, period, {"verify": "no"})
    table = document.table("verifications")
    rows = [dict(zip([c.name for c in table.columns], row, strict=True)) for row in table.rows]
    assert [row["state"] for row in rows] == ["whole", "altered", "whole"]
    assert [row["by_run"] for row in rows] == [str(whole), str(looked), str(again)]
    assert str(whole) in str(rows[1]["text"])
