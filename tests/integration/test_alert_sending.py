"""What is due is sent once, whoever sends it, and whatever is killed or away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from uuid6 import uuid7

from blocks import AlertApprise, AlertSlackBot, AlertSlackWebhook
from blocks.alerts import AlertChannel
from services.alert_judge import Judge
from services.alert_sender import Sender
from smartops.alerts.policy import Policy
from smartops.audit import alert_tables, recording, shipping
from smartops.audit.alert_outbox import LEASE
from smartops.audit.recording import RunInfo
from smartops.audit.store import Store
from smartops.settings import get_settings
from tests.alert_sinks import MailSink, WebSink
from tests.conftest import wait_for
from tests.integration.test_alert_channels import APPRISE_IS_OLD
from tests.integration.test_alerts import FAILURE, Plantlet, not_sent, policy, rows

Load = Callable[[str], AlertChannel]
MAIL, HOOK = {"block": "alert-mail/ops"}, {"block": "alert-slack-webhook/hook"}
HOURS = timedelta(hours=1)


@pytest.fixture
def web() -> Iterator[WebSink]:
    with WebSink().running() as sink:
        yield sink


@pytest.fixture
def mail(tmp_path: Path) -> Iterator[MailSink]:
    with MailSink(tmp_path).running() as sink:
        yield sink


@pytest.fixture
def plantlet(store: Store) -> Plantlet:
    return Plantlet(store)


def connections(**known: AlertChannel) -> Load:
    return lambda block: known[block.partition("/")[2]]


def send(
    store: Store,
    rules: Policy,
    load: Load,
    now: datetime | None = None,
    *,
    link: str = "",
    rounds: int = 3,
) -> list[bool]:
    """Send what is due, one after the other on each channel; return what arrived."""
    sender = Sender(store, rules, load, link)
    found: list[bool] = []
    for _ in range(rounds):
        under_way = sender.send_due(now or datetime.now(UTC))
        found += [future.result() for future in under_way]
    sender.close()
    return found


def deliveries(store: Store) -> list[tuple[str, str]]:
    found = rows(store, alert_tables.alert_delivery)
    return [(row["channel"], row["state"]) for row in found if row["state"] != "not_sent"]


def fail(plantlet: Plantlet, *jobs: str) -> None:
    """Put failures of jobs on record."""
    for job in jobs:
        info = RunInfo(id=uuid7(), job=job, flow="run-job")
        recording.start_run(info)
        recording.end_run(info, "failed", "no answer in 3 s")


def test_from_failure_to_recovery_by_mail(plantlet: Plantlet, store: Store, mail: MailSink) -> None:
    """A thousand equal failures: one mail, one when all is well; each attempt on record."""
    rules = policy(FAILURE)
    load = connections(ops=mail.block())
    fail(plantlet, *["fill"] * 1000)
    plantlet.judge(rules)
    assert send(store, rules, load, link="http://ui/runs/") == [True]
    plantlet.run()
    plantlet.judge(rules)
    assert send(store, rules, load) == [True]
    assert send(store, rules, load) == []
    bad, well = mail.mails
    assert bad["Subject"] == "[warning] fill failed (1000 times)"
    assert well["Subject"] == "[recovered] fill failed (1000 times)"
    assert "http://ui/runs/" in str(bad.get_body(("plain",)))
    assert deliveries(store) == [("ops", "sent")] * 2


def test_a_store_that_goes_away_while_a_message_is_sent(
    plantlet: Plantlet, store: Store, mail: MailSink, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told at once, and the message is sent again once its claim has ended."""
    rules = policy(FAILURE)
    fail(plantlet, "fill")
    plantlet.judge(rules)

    def rename(one: str, other: str) -> None:
        with store.transaction() as connection:
            connection.execute(sa.text(f"ALTER TABLE {one} RENAME TO {other}"))

    def load(_block: str) -> AlertChannel:
        rename("alert_message", "away")
        return mail.block()

    assert send(store, rules, load, rounds=1) == [False]
    assert "how message" in caplog.text
    rename("away", "alert_message")
    later = datetime.now(UTC) + 2 * LEASE
    assert send(store, rules, connections(ops=mail.block()), later) == [True]
    assert len(mail.mails) == 1


def test_alerts_that_come_together_are_sent_together(
    plantlet: Plantlet, store: Store, web: WebSink
) -> None:
    """The route waits for more; a label that they do not share keeps them apart."""
    load = connections(hook=AlertSlackWebhook(url=web.url))
    for group_by, number in (((), 1), (("rule",), 2)):
        route = {"name": "all", "channels": ["hook"], "wait": "30s", "group_by": group_by}
        rules = policy(
            {**FAILURE, "jobs": ["a*", "b*"]},
            {**FAILURE, "jobs": ["c*"]},
            channels={"hook": HOOK},
            routes=[route],
        )
        fail(plantlet, *(f"{letter}-{number}" for letter in "abc"))
        plantlet.judge(rules)
        assert send(store, rules, load) == []
        later = datetime.now(UTC) + timedelta(seconds=31)
        assert send(store, rules, load, later) == [True] * number
    first = web.posts[0].body["text"]
    assert first == "[warning] 3 alerts: a-1 failed; b-1 failed; c-1 failed"


def test_a_recovery_is_not_told_before_its_alert(
    plantlet: Plantlet, store: Store, web: WebSink
) -> None:
    """Also when the alert still waits for others."""
    route = {"name": "all", "channels": ["hook"], "wait": "30s"}
    rules = policy(FAILURE, channels={"hook": HOOK}, routes=[route])
    load = connections(hook=AlertSlackWebhook(url=web.url))
    fail(plantlet, "fill")
    plantlet.judge(rules)
    plantlet.run()
    plantlet.judge(rules)
    assert send(store, rules, load) == []
    assert send(store, rules, load, datetime.now(UTC) + timedelta(seconds=31)) == [True, True]
    assert [post.body["text"][:11] for post in web.posts] == ["[warning] f", "[recovered]"]


def test_what_a_channel_does_not_take_now_comes_later_together(
    plantlet: Plantlet, store: Store, web: WebSink
) -> None:
    """Held back, which is on record, and nothing is lost."""
    hook = {**HOOK, "throttle": {"most": 2, "per": "1h"}}
    rules = policy(FAILURE, channels={"hook": hook}, routes=[{"name": "all", "channels": ["hook"]}])
    load = connections(hook=AlertSlackWebhook(url=web.url))
    for number in range(5):
        fail(plantlet, f"job-{number}")
        plantlet.judge(rules)
        send(store, rules, load)
    assert len(web.posts) == 2
    assert all("held back until" in reason for reason in not_sent(store))
    assert len(not_sent(store)) == 3
    send(store, rules, load, datetime.now(UTC) + timedelta(minutes=61))
    assert web.posts[2].body["text"].startswith("[warning] 3 alerts: job-2 failed")


def test_the_fallback(plantlet: Plantlet, store: Store, mail: MailSink, web: WebSink) -> None:
    """When a channel fails for long, the next is used, and says so; the recovery goes there."""
    channels = {"ops": {**MAIL, "fallback": "hook", "fallback_after": "1m"}, "hook": HOOK}
    rules = policy(FAILURE, channels=channels)
    load = connections(ops=mail.block(port=1), hook=AlertSlackWebhook(url=web.url))
    fail(plantlet, "fill")
    plantlet.judge(rules)
    assert send(store, rules, load, rounds=1) == [False]
    assert web.posts == []
    begin = rows(store, alert_tables.alert_message)[0]["tried_at"] - timedelta(minutes=2)
    with store.transaction() as connection:
        connection.execute(alert_tables.alert_message.update().values(tried_at=begin))
    assert send(store, rules, load, datetime.now(UTC) + timedelta(seconds=3), rounds=1) == [False]
    assert send(store, rules, load, rounds=1) == [True]
    assert "as ops could not be reached" in str(web.posts[0].body["blocks"])
    assert deliveries(store) == [("ops", "failed"), ("ops", "failed"), ("hook", "sent")]
    plantlet.run()
    plantlet.judge(rules)
    assert send(store, rules, load) == [True]
    assert web.posts[1].body["text"].startswith("[recovered]")


def test_a_refusal_goes_to_the_fallback_at_once(
    plantlet: Plantlet, store: Store, mail: MailSink, web: WebSink
) -> None:
    """Trying again would give the same answer."""
    mail.refuse["shift@plant.example"] = "550 no such person"
    rules = policy(FAILURE, channels={"ops": {**MAIL, "fallback": "hook"}, "hook": HOOK})
    load = connections(ops=mail.block(), hook=AlertSlackWebhook(url=web.url))
    fail(plantlet, "fill")
    plantlet.judge(rules)
    assert send(store, rules, load) == [False, True]
    [refused, _] = rows(store, alert_tables.alert_delivery)
    assert "550" in refused["reason"]


def test_without_a_fallback_it_is_tried_again(
    plantlet: Plantlet, store: Store, mail: MailSink
) -> None:
    """Later and later, for a day, under the same key."""
    rules = policy(FAILURE)
    fail(plantlet, "fill")
    plantlet.judge(rules)
    now = datetime.now(UTC)
    for hours in range(4):
        down = connections(ops=mail.block(port=1))
        assert send(store, rules, down, now + hours * HOURS, rounds=1) == [False]
    assert send(store, rules, connections(ops=mail.block()), now + 5 * HOURS) == [True]
    keys = {row["message_id"] for row in rows(store, alert_tables.alert_delivery)}
    [message] = rows(store, alert_tables.alert_message)
    assert keys == {message["batch"]}
    assert mail.mails[0]["Message-ID"] == f"<{message['batch']}@plant.example>"


def test_a_thread_for_each_alert(plantlet: Plantlet, store: Store, web: WebSink) -> None:
    """A Slack bot answers to the first message of the same alert."""
    bot = AlertSlackBot(token="xoxb-1", base_url=f"{web.url}/api/")
    bot_channel = {"block": "alert-slack-bot/bot", "to": ["C7"]}
    rules = policy(FAILURE, channels={"ops": bot_channel})
    load = connections(bot=bot)
    for job in ("a", "b"):
        fail(plantlet, job)
        plantlet.judge(rules)
        send(store, rules, load)
    plantlet.run("b")
    plantlet.judge(rules)
    send(store, rules, load)
    assert [post.body.get("thread_ts") for post in web.posts] == [None, None, "2.000100"]
    assert web.posts[0].body["channel"] == "C7"


def test_two_senders_never_send_both(plantlet: Plantlet, store: Store, web: WebSink) -> None:
    """Each message has one claim: thirty alerts on three channels, two senders at once."""
    names = ("one", "two", "three")
    channels = {name: {"block": f"alert-slack-webhook/{name}"} for name in names}
    route = {"name": "all", "channels": names, "group_by": ["job"]}
    rules = policy(
        *({**FAILURE, "jobs": [f"job-{number}"]} for number in range(10)),
        channels=channels,
        routes=[{**route, "group_by": ["rule"]}],
    )
    load = connections(**{name: AlertSlackWebhook(url=f"{web.url}/{name}") for name in names})
    fail(plantlet, *(f"job-{number}" for number in range(10)))
    plantlet.judge(rules)
    senders = [Sender(store, rules, load) for _ in range(2)]

    def all_sent() -> bool:
        for sender in senders:
            sender.send_due()
        found = rows(store, alert_tables.alert_message)
        return all(message["state"] == "sent" for message in found)

    wait_for(all_sent, "all to be sent", 120)
    for sender in senders:
        sender.close()
    keys = [post.body["client_msg_id"] for post in web.posts]
    assert len(keys) == len(set(keys)) == 30
    assert {post.path for post in web.posts} == {"/one", "/two", "/three"}


SENDER = """
import sys
from blocks import AlertApprise
from services.alert_sender import Sender
from smartops.alerts.policy import Policy
from smartops.audit.store import Store
rules = Policy.model_validate_json(sys.argv[2])
sender = Sender(Store(sys.argv[1]), rules, lambda _: AlertApprise(url=sys.argv[3]))
[future.result() for future in sender.send_due()]
"""


@APPRISE_IS_OLD
def test_kill_9_in_mid_send(plantlet: Plantlet, store: Store, web: WebSink) -> None:
    """Nothing is lost: who comes next sends the same under the same key, and nothing twice more."""
    rules = policy(FAILURE, channels={"ops": {"block": "alert-apprise/ops"}})
    url = f"{web.url.replace('http', 'json')}/hook"
    fail(plantlet, "fill")
    plantlet.judge(rules)
    web.hold.set()
    address = store.url.render_as_string(hide_password=False)
    command = [sys.executable, "-c", SENDER, address, rules.model_dump_json(), url]
    with subprocess.Popen(command, env={**os.environ}) as sender:
        wait_for(lambda: web.posts, "the message to arrive", 120)
        sender.send_signal(signal.SIGKILL)
    web.hold.clear()
    load = connections(ops=AlertApprise(url=url))
    assert send(store, rules, load) == []
    assert send(store, rules, load, datetime.now(UTC) + LEASE) == [True]
    assert send(store, rules, load, datetime.now(UTC) + 2 * LEASE) == []
    first, second = (post.headers["idempotency-key"] for post in web.posts)
    assert first == second


def test_kill_9_while_judging(plantlet: Plantlet, store: Store) -> None:
    """What was not committed is judged again, from the outbox."""
    rules = policy(FAILURE)
    fail(plantlet, "fill")
    shipping.ship_all(store, get_settings().journal_dir)
    address = store.url.render_as_string(hide_password=False)
    code = (
        "import os, signal, sys\n"
        "from datetime import UTC, datetime\n"
        "from services import alert_judge\n"
        "from smartops.alerts.policy import Policy\n"
        "from smartops.audit.store import Store\n"
        "alert_judge.book.forget = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "rules = Policy.model_validate_json(sys.argv[2])\n"
        "alert_judge.Judge(Store(sys.argv[1]), rules).judge(datetime.now(UTC))\n"
    )
    command = [sys.executable, "-c", code, address, rules.model_dump_json()]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert rows(store, alert_tables.alert_message) == []
    Judge(store, rules).judge(datetime.now(UTC))
    assert len(rows(store, alert_tables.alert_message)) == 1


def test_a_channel_that_was_taken_away(plantlet: Plantlet, store: Store) -> None:
    """What was to go there is on record as failed."""
    fail(plantlet, "fill")
    plantlet.judge(policy(FAILURE))
    other: Any = {"channels": {"other": MAIL}, "routes": [{"name": "r", "channels": ["other"]}]}
    assert send(store, Policy.model_validate(other), connections(), rounds=1) == [False]
    assert deliveries(store) == [("ops", "failed")]
