"""Verifications that are put on record: what they look at, and who finds them there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from uuid6 import uuid7

from reports import as_data, audit_report
from reports.document import Document
from reports.period import Period
from services.alert_judge import Judge
from smartops import errors
from smartops.alerts.policy import Policy
from smartops.audit import alert_book, alert_tables, anchors, keys, models, seal, shipping
from smartops.audit import verification as verifying
from smartops.audit.migrations import guarding
from smartops.audit.recording import RunInfo, recorded_run
from smartops.audit.store import Store
from smartops.settings import get_settings

NOW = datetime.now(UTC)
PERIOD = Period(NOW - timedelta(hours=1), NOW + timedelta(days=1))
RULES = Policy.model_validate(
    {
        "channels": {"ops": {"block": "alert-mail/ops"}},
        "rules": [{"name": "record-altered", "on": "verification", "severity": "critical"}],
        "routes": [{"name": "all", "channels": ["ops"]}],
    }
)


def put_a_run(store: Store) -> RunInfo:
    """Put a run on record, seal it, and publish the seal."""
    info = RunInfo(uuid7(), "j", "f")
    with recorded_run(info):
        pass
    shipping.ship_all(store, get_settings().journal_dir)
    made = seal.seal(store, keys.signing_key(get_settings().keys_dir))
    assert made is not None
    for place in anchors.anchors_of(get_settings()):
        place.publish([made])
    return info


def verify(store: Store, **options: Any) -> bool:
    """Verify and put the result on record, as the deployment does."""
    verdict = verifying.look(store, **options)
    verifying.put_on_record(verdict, tables=bool(options), run_id=uuid7())
    shipping.ship_all(store, get_settings().journal_dir)
    return verdict.ok


@contextmanager
def without_guards(store: Store) -> Iterator[sa.Connection]:
    """Change what may not be changed."""
    with store.transaction() as connection:
        for table in ("event", "seal", "seal_part"):
            guarding.unguard(connection, table)
        yield connection
        guarding.guard(connection)


def lines(document: Document, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(as_data.as_json(document))["tables"][table]
    return found


def test_alerts_and_the_report_find_what_was_found(store: Store, home: Any) -> None:
    """Whole, altered, and whole again: three results on record, one alert, and its end."""
    alert_book.switch_on(store, NOW - timedelta(hours=1))
    info = put_a_run(store)
    event = models.event
    mine = (event.c.run_id == info.id) & (event.c.type == "run.ended")
    with store.reading() as connection:
        body = connection.execute(sa.select(event.c.body).where(mine)).scalar_one()
    judge = Judge(store, RULES)
    states = []
    for text, whole in ((body, True), ('{"state": "completed"}', False), (body, True)):
        with without_guards(store) as connection:
            connection.execute(sa.update(event).where(mine).values(body=text))
        assert verify(store) is whole
        judge.judge(datetime.now(UTC))
        with store.reading() as connection:
            found = connection.execute(sa.select(alert_tables.alert_episode)).all()
        states.append([(row.rule, row.severity, row.state) for row in found])
    alert = ("record-altered", "critical")
    assert states == [[], [(*alert, "open")], [(*alert, "ended")]]
    assert str(info.id) in found[0].details
    document = audit_report.build(store, PERIOD, {"verify": "no"})
    told = lines(document, "verifications")
    assert [line["state"] for line in told] == ["whole", "altered", "whole"]
    assert str(info.id) in told[1]["text"]
    assert [line["published"] for line in told] == [1, 1, 1]
    figures = {figure.name: figure.value for figure in document.figures}
    assert (figures["verifications"], figures["found_altered"]) == (3, 1)
    assert "3 verifications on record" in document.summary[1]
    assert "and 1 before it found it altered" in document.summary[1]
    before = Period(NOW - timedelta(hours=3), NOW - timedelta(hours=2))
    document = audit_report.build(store, before, {"verify": "no"})
    assert "No verification was put on record." in document.summary


def test_the_tables_are_looked_at_where_that_is_asked(store: Store, home: Any) -> None:
    """A run whose row says otherwise than its events."""
    info = put_a_run(store)
    run = models.job_run
    with store.transaction() as connection:
        connection.execute(sa.update(run).where(run.c.id == info.id).values(state="failed"))
    assert verify(store)
    assert not verify(store, tables=True)
    told = lines(audit_report.build(store, PERIOD, {"verify": "no"}), "verifications")
    assert [(line["state"], line["tables"]) for line in told] == [
        ("whole", False),
        ("altered", True),
    ]


def test_a_record_that_was_emptied_is_no_new_one(store: Store, home: Any) -> None:
    """What was published says that there was more."""
    with pytest.raises(errors.BadInput, match="there is no record"):
        verifying.look(store)
    put_a_run(store)
    with without_guards(store) as connection:
        for table in (models.seal, models.seal_part, models.event, models.stream):
            connection.execute(sa.delete(table))
    bad = verifying.look(store).first_bad
    assert bad is not None
    assert bad.text == "seal number 1 is missing, and was published"


def test_without_a_key_nothing_is_called_altered(store: Store, home: Any) -> None:
    """A machine that was given no key cannot tell, and says so."""
    put_a_run(store)
    for file in get_settings().keys_dir.glob("*.pub"):
        file.unlink()
    with pytest.raises(errors.BadInput, match="there is no public key in"):
        verifying.look(store)
    document = audit_report.build(store, PERIOD, {})
    assert lines(document, "proof")[0]["state"] == "not looked at"
