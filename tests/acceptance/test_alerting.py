"""From a job that fails in the running system to a mail, and to the mail that says it is over."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.stack import Stack
from tests.acceptance.conftest import Cli, PlantControl
from tests.alert_sinks import MailSink
from tests.conftest import PREFECT_LEAVES_SOCKETS, wait_for

pytestmark = [pytest.mark.stack, PREFECT_LEAVES_SOCKETS]
RULES = """
channels:
  mail: {block: alert-mail/in-tests}
rules:
  - {name: orders-failed, on: failure, jobs: [asks-for-orders], severity: critical}
routes:
  - {name: all, channels: [mail]}
"""
JOB = """
name: asks-for-orders
steps:
  - id: orders
    kind: rest.request
    service: plant-orders
    path: /orders
    retry: {attempts: 3, delay: 10ms, jitter: 0}
alert:
  check: ["Does the order server answer?"]
  runbook: Start it again with its red button.
"""


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[MailSink]:
    with MailSink(tmp_path).running() as sink:
        yield sink


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "alerts.yaml").write_text(RULES)
    return tmp_path / "alerts.yaml"


@pytest.fixture
def alerter(in_stack: Stack, rules: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The service, as `smartops up` starts it where SMARTOPS_ALERTS is set."""
    command = [sys.executable, "-m", "services.alerter", str(rules)]
    log = tmp_path / "alerter.log"
    with log.open("wb") as out:
        running = subprocess.Popen(command, env=in_stack.environment, stdout=out, stderr=out)
    yield running
    running.send_signal(signal.SIGTERM)
    assert running.wait(60) == 0, log.read_text()


def test_one_mail_after_the_last_attempt_and_one_when_it_is_over(
    alerter: subprocess.Popen[bytes],
    mail: MailSink,
    rules: Path,
    tmp_path: Path,
    quick: Cli,
    plant_control: PlantControl,
) -> None:
    """A job that is tried three times and fails: exactly one mail, with what to do; one recovery.

    And what the commands say of it.
    """
    asyncio.run(mail.block().asave("in-tests", overwrite=True))
    (tmp_path / "job.yaml").write_text(JOB)
    env = {"SMARTOPS_ALERTS": str(rules)}

    def listed(*options: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(quick("alert", "list", "--json", *options).stdout)
        return found

    wait_for(lambda: listed()["alerter_seen_at"], "the alerter to be there", 120)
    assert quick("alert", "check", env=env).returncode == 0
    assert quick("alert", "test", "mail", env=env).returncode == 0
    assert mail.mails.pop()["Subject"] == "[test] SmartOps can reach you"
    plant_control.switch_on("orders-down")
    failed = json.loads(quick("job", "run", "job.yaml", "--wait", "--json").stdout)
    assert (failed["state"], failed["steps"][0]["attempts"]) == ("failed", 3)
    wait_for(lambda: mail.mails, "the mail", 120)
    [alert] = listed()["alerts"]
    assert quick("alert", "ack", alert["id"], "-m", "on my way").returncode == 0
    assert listed()["alerts"][0]["acknowledged_by"]
    plant_control.all_well()
    assert quick("job", "run", "job.yaml", "--wait", "--json").returncode == 0
    wait_for(lambda: len(mail.mails) > 1, "the recovery", 120)
    bad, well = mail.mails
    assert bad["Subject"] == "[critical] asks-for-orders failed at step orders"
    assert well["Subject"] == "[recovered] asks-for-orders failed at step orders"
    text = bad.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert "orders (attempt 3)" in text
    assert "Does the order server answer?" in text
    assert "red button" in text
    assert f"/runs/flow-run/{failed['run_id']}" in text
    assert listed()["alerts"] == []

    def both() -> Any:
        sent = json.loads(quick("alert", "sent", alert["id"], "--json").stdout)
        return sent if len(sent) >= 2 else None

    # The mail is there before that stands on record.
    sent = wait_for(both, "both deliveries")
    assert [delivery["state"] for delivery in sent] == ["sent", "sent"]
