"""The alerter as `smartops up` starts it, and what it does when its files change."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from services import stack as stacks
from services.processes import stop_all
from services.stack import Stack
from smartops.audit import alert_tables, schema
from smartops.audit.store import Store
from smartops.errors import BadInput
from smartops.settings import get_settings
from tests.conftest import wait_for
from tests.integration.test_alerts import Plantlet, rows

RULES = """
channels:
  ops: {{block: alert-mail/ops}}
rules:
  - {{name: {name}, on: failure}}
routes:
  - {{name: all, channels: [ops]}}
"""


def test_the_service(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts where the setting says so, once; takes over changed rules, and keeps good ones.

    Prefect is away here: what it judges waits to be sent, and why is on record.
    """
    file = tmp_path / "alerts.yaml"
    file.write_text(RULES.format(name="first"))
    monkeypatch.setenv("SMARTOPS_ALERTS", str(file))
    monkeypatch.setenv("SMARTOPS_ALERT_INTERVAL", "50ms")
    get_settings.cache_clear()
    home.mkdir(parents=True)
    store = Store(get_settings().store_url)
    schema.migrate(store)
    stack = Stack(get_settings(), "http://127.0.0.1:1/api")
    for _ in range(2):
        stacks._start_beside(stack, lambda _text: None)
    [service] = stack.services
    assert service.name == "alerter"
    assert stack.settings.alerts is not None
    try:
        switch = alert_tables.alert_switch
        wait_for(lambda: rows(store, switch), "the alerter to be there", 120)
        plantlet = Plantlet(store)
        for job, name in (("one", "second"), ("two", "")):
            plantlet.run(job, fails="a")
            plantlet.ship(store)
            _until(store, job)
            file.write_text(RULES.format(name=name) if name else "rules: 3\n")
            _until_it_says(service.log, "was read again" if name else "what it said before holds")
        found = rows(store, alert_tables.alert_episode)
        assert [(row["rule"], row["subject"]) for row in found][-1] == ("second", "two")
        failed = sa.select(alert_tables.alert_delivery.c.reason).where(
            alert_tables.alert_delivery.c.state == "failed"
        )

        def reasons() -> list[str]:
            with store.reading() as connection:
                return list(connection.execute(failed).scalars())

        wait_for(reasons, "an attempt", 120)
        assert "cannot be read now" in reasons()[0]
    finally:
        assert stop_all(stack.services) == ["alerter"]
        store.close()


def _until(store: Store, job: str) -> None:
    table = alert_tables.alert_episode
    wait_for(lambda: any(row["subject"] == job for row in rows(store, table)), job, 120)


def _until_it_says(log: str, text: str) -> None:
    wait_for(lambda: text in Path(log).read_text(), text, 120)


def test_rules_that_are_wrong_stop_the_start(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are named before anything is started."""
    (tmp_path / "alerts.yaml").write_text("ruels: []\n")
    monkeypatch.setenv("SMARTOPS_ALERTS", str(tmp_path / "alerts.yaml"))
    get_settings.cache_clear()
    with pytest.raises(BadInput, match="ruels: there is no such field"):
        stacks.up(lambda _text: None)
    assert not (home / "audit.sqlite").exists()
