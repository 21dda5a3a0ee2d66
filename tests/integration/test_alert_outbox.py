"""The outbox of alerts: a fact stands in it as soon as what it tells of is on record."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from uuid6 import uuid7

from smartops import errors
from smartops.audit import alert_tables, models, recording, shipping
from smartops.audit.alert_facts import kind_of
from smartops.audit.journal import get_journal
from smartops.audit.journal_reader import JournalReader
from smartops.audit.projection import Projection
from smartops.audit.recording import RunInfo, recorded_run
from smartops.audit.store import Store
from smartops.settings import get_settings


def a_failure(job: str = "fill-tank") -> RunInfo:
    info = RunInfo(id=uuid7(), job=job, flow="run-job", kind="job")
    with contextlib.suppress(errors.DeviceTimeout), recorded_run(info):
        raise errors.DeviceTimeout("no answer in 3 s")
    return info


def ship(store: Store) -> int:
    return shipping.ship_all(store, get_settings().journal_dir)


def rows(store: Store, table: sa.Table) -> list[dict[str, Any]]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(sa.select(table)).mappings()]


def switch_on(store: Store) -> None:
    now = datetime.now(UTC)
    with store.transaction() as connection:
        row = {"id": 1, "since": now, "seen_at": now}
        connection.execute(sa.insert(alert_tables.alert_switch).values(**row))


def test_nothing_is_put_out_where_nobody_wants_alerts(store: Store) -> None:
    """A system without rules pays nothing."""
    a_failure()
    assert ship(store) > 0
    assert rows(store, alert_tables.alert_fact) == []


def test_a_fact_is_put_out_once_however_often_it_is_shipped(store: Store) -> None:
    """With the id of its event, in the transaction that shows it."""
    switch_on(store)
    info = a_failure()
    ship(store)
    ship(store)
    [fact] = rows(store, alert_tables.alert_fact)
    assert (fact["kind"], fact["run_id"]) == ("ended", info.id)
    with store.reading() as connection:
        query = sa.select(models.event.c.id).where(models.event.c.type == "run.ended")
        assert connection.execute(query).scalar_one() == fact["id"]


def test_neither_fact_nor_record_without_the_other(store: Store) -> None:
    """When the transaction breaks off after both were written, neither is there."""
    switch_on(store)
    a_failure()
    reader = JournalReader(get_journal().path)
    assert reader.writer is not None
    with contextlib.suppress(KeyboardInterrupt), store.transaction() as connection:
        Projection(connection, reader.writer, alerting=True).apply(reader.after(0, 100))
        written = sa.select(sa.func.count()).select_from(alert_tables.alert_fact)
        assert connection.execute(written).scalar_one() == 1
        raise KeyboardInterrupt
    reader.close()
    assert rows(store, alert_tables.alert_fact) == rows(store, models.job_run) == []
    ship(store)
    assert len(rows(store, alert_tables.alert_fact)) == len(rows(store, models.job_run)) == 1


def test_a_run_that_waits_for_a_decision_and_goes_on(store: Store) -> None:
    """Both are facts; a run that merely waits is none."""
    switch_on(store)
    info = RunInfo(id=uuid7(), job="j", flow="f")
    recording.start_run(info)
    recording.suspend_run(info, "step fill needs a decision: lost", "needs_decision")
    ship(store)
    recording.start_run(info, again=True)
    recording.suspend_run(info, "waits for an approval")
    ship(store)
    facts = sorted(rows(store, alert_tables.alert_fact), key=lambda row: str(row["id"]))
    assert [fact["kind"] for fact in facts] == ["waits", "resumed"]


@pytest.mark.parametrize(
    ("event", "body", "was_suspended", "kind"),
    [
        ("run.ended", {"state": "completed"}, False, "ended"),
        ("run.suspended", {"state": "suspended"}, False, None),
        ("run.suspended", {"state": "needs_decision"}, False, "waits"),
        ("run.started", {}, False, None),
        ("run.started", {}, True, "resumed"),
        ("slot", {}, False, "slot"),
        ("device", {}, False, "device"),
        ("quality", {}, False, "quality"),
        ("audit.verified", {}, False, "verified"),
        ("log", {}, False, None),
        ("step.ended", {"state": "failed"}, False, None),
    ],
)
def test_which_events_are_facts(
    event: str, body: dict[str, Any], was_suspended: bool, kind: str | None
) -> None:
    """A step that failed is none: it may be tried again."""
    assert kind_of(event, body, was_suspended) == kind
