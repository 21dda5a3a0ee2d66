"""What people ask of alerts and answer to them, by command."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from smartops.audit import alert_tables, schema
from smartops.audit.store import Store
from smartops.cli.app import main
from smartops.settings import get_settings
from tests.integration.test_alerts import FAILURE, Plantlet, policy, rows

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def store(home: Path) -> Store:
    """The store of the command's own home."""
    home.mkdir(parents=True)
    store = Store(get_settings().store_url)
    schema.migrate(store)
    return store


@pytest.fixture
def call(store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command within this process."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["smartops", "alert", *arguments])
        capsys.readouterr()
        code = main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_listing_and_acknowledging(store: Store, call: Call) -> None:
    """By the first part of an id; what is over is listed on demand, and not acknowledged."""
    plantlet, rules = Plantlet(store), policy(FAILURE)
    plantlet.run(fails="open-valve")
    plantlet.judge(rules)
    code, shown, _ = call("list")
    assert (code, "fill failed at step open-valve" in shown) == (0, True)
    [alert] = json.loads(call("list", "--json")[1])["alerts"]
    assert (alert["count"], alert["state"], alert["acknowledged_by"]) == (1, "open", None)
    assert call("ack", alert["id"], "-m", "on my way")[0] == 0
    assert json.loads(call("list", "--json")[1])["alerts"][0]["acknowledged_by"]
    [answer] = rows(store, alert_tables.alert_answer)
    assert (answer["action"], answer["comment"]) == ("ack", "on my way")
    plantlet.run()
    plantlet.judge(rules)
    assert json.loads(call("list", "--json")[1])["alerts"] == []
    assert len(json.loads(call("list", "--all", "--json")[1])["alerts"]) == 1
    assert "is over" in call("ack", alert["id"])[2]


def test_muting(store: Store, call: Call) -> None:
    """A job, a rule, or what an alert is about; for a while, or until it is taken back."""
    plantlet, rules = Plantlet(store), policy(FAILURE)
    assert call("mute", "fill", "--for", "2h", "-m", "cleaning")[0] == 0
    plantlet.run(fails="a")
    plantlet.judge(rules)
    assert rows(store, alert_tables.alert_message) == []
    said = json.loads(call("sent", "--json")[1])
    assert "cleaning" in said[0]["reason"]
    assert call("unmute", "fill")[0] == 0
    plantlet.run(fails="a")
    plantlet.judge(rules)
    [alert] = json.loads(call("list", "--json")[1])["alerts"]
    muted = json.loads(call("mute", alert["id"], "--json")[1])
    assert muted["target"] == "fill"
    until = datetime.fromisoformat(muted["until"]) - datetime.now(UTC)
    assert timedelta(minutes=58) < until < timedelta(minutes=61)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ack", "ffff"), "there is no alert ffff"),
        (("mute", "fill", "--for", "long"), "write a duration"),
        (("mute", "fill", "--for", "9999d"), "longer than a year"),
        (("sent", "ffff"), "there is no alert ffff"),
        (("test", "ops"), "set SMARTOPS_ALERTS"),
        (("check",), "set SMARTOPS_ALERTS"),
        (("list", "--limit", "0"), "greater than"),
    ],
)
def test_wrong_use(store: Store, call: Call, arguments: tuple[str, ...], said: str) -> None:
    """One line, and nothing changed."""
    code, _, text = call(*arguments)
    assert (code, said in text) == (2, True), text
    with store.reading() as connection:
        count = sa.select(sa.func.count()).select_from(alert_tables.alert_answer)
        assert connection.execute(count).scalar_one() == 0


def test_a_channel_that_is_not_there(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which there are."""
    document: dict[str, Any] = {"channels": {"ops": {"block": "alert-mail/ops"}}}
    (tmp_path / "alerts.yaml").write_text(json.dumps(document))
    code, _, text = call("test", "opps", "--file", str(tmp_path / "alerts.yaml"))
    assert (code, "there is: ops" in text) == (2, True)
