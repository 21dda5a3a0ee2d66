"""Mail, Slack and Apprise against servers on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from uuid6 import uuid7

from blocks import AlertApprise, AlertSlackBot, AlertSlackWebhook
from smartops import errors
from smartops.alerts.message import Kind, Message, Said, compose
from tests.alert_sinks import MailSink, WebSink

APPRISE_IS_OLD = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
WHEN = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)


def a_message(kind: Kind = "raised", **fields: Any) -> Message:
    said = Said(
        **{
            "id": uuid7(),
            "rule": "job-failed",
            "severity": "critical",
            "title": "fill <failed> & stopped",
            "lines": (("What happened", "no answer in 3 s"),),
            "count": 1,
            "raised_at": WHEN,
            "run_id": uuid7(),
            "link": "http://prefect.example/runs/flow-run/1",
            "check": ("Is line 3 under power?",),
            "runbook": "Close valve 7.",
            **fields,
        }
    )
    return compose(uuid7(), kind, [said])


@pytest.fixture
def web() -> Iterator[WebSink]:
    with WebSink().running() as sink:
        yield sink


@pytest.mark.parametrize("tls", [False, True], ids=["starttls", "tls"])
def test_a_mail_over_tls(tmp_path: Path, tls: bool) -> None:
    """Text and HTML with the link, what to check and the runbook; its id is the message's key."""
    message = a_message()
    with MailSink(tmp_path, tls=tls).running() as sink:
        remote = sink.block().send(message, (), None)
    [mail] = sink.mails
    assert mail["Message-ID"] == remote == f"<{message.key}@plant.example>"
    assert mail["To"] == "shift@plant.example"
    assert mail["Subject"] == "[critical] fill <failed> & stopped"
    plain, html = (mail.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None
    assert html is not None
    for part in (plain.get_content(), html.get_content()):
        assert "http://prefect.example/runs/flow-run/1" in part
        assert "Is line 3 under power?" in part
        assert "Close valve 7." in part
    assert "fill &lt;failed&gt; &amp; stopped" in html.get_content()


def test_mails_about_one_alert_stand_together(tmp_path: Path) -> None:
    """By the header that mail programs look at."""
    alert = uuid7()
    with MailSink(tmp_path).running() as sink:
        for kind in ("raised", "recovered"):
            sink.block().send(a_message(kind, id=alert), ("boss@plant.example",), None)
    first, second = sink.mails
    assert first["References"] == second["References"]
    assert first["Message-ID"] != second["Message-ID"]
    assert second["To"] == "boss@plant.example"
    assert second["Subject"].startswith("[recovered]")


@pytest.mark.parametrize(
    ("fields", "refuse", "error"),
    [
        ({"password": "wrong-password"}, "", errors.AuthenticationFailed),
        ({"ca_file": None}, "", errors.ServiceUnavailable),
        ({"port": 1}, "", errors.ServiceUnavailable),
        ({}, "550 no such person", errors.BadInput),
        ({}, "451 try later", errors.ServiceUnavailable),
        ({"to": []}, "", errors.BadInput),
    ],
    ids=["login", "certificate", "nobody there", "recipient", "later", "no recipient"],
)
def test_what_a_mail_server_refuses(
    tmp_path: Path, fields: dict[str, Any], refuse: str, error: type[Exception]
) -> None:
    """Whether it may work later; no password is in what is said."""
    with MailSink(tmp_path).running() as sink:
        if refuse:
            sink.refuse["shift@plant.example"] = refuse
        with pytest.raises(error) as refused:
            sink.block(**fields).send(a_message(), (), None)
    assert sink.mails == []
    assert "wrong-password" not in str(refused.value)


def test_a_slack_webhook(web: WebSink) -> None:
    """The message's key goes with it; nothing in a text is taken for Slack's own marks."""
    message = a_message(title="<!channel> fill failed")
    AlertSlackWebhook(url=f"{web.url}/services/T/B/x").send(message, (), None)
    [post] = web.posts
    assert post.body["client_msg_id"] == str(message.key)
    assert "&lt;!channel&gt; fill failed" in post.body["blocks"][0]["text"]["text"]
    assert "<!channel>" not in str(post.body["blocks"])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, errors.BadInput),
        (429, errors.ServiceUnavailable),
        (503, errors.ServiceUnavailable),
    ],
)
def test_what_a_slack_webhook_refuses(web: WebSink, status: int, error: type[Exception]) -> None:
    """Its address stays out of what is said."""
    web.status = status
    with pytest.raises(error) as refused:
        AlertSlackWebhook(url=f"{web.url}/services/T/B/s3cret-part").send(a_message(), (), None)
    assert "s3cret-part" not in str(refused.value)


def test_a_slack_bot_keeps_a_thread(web: WebSink) -> None:
    """The time stamp of the first message is the thread of the later ones."""
    bot = AlertSlackBot(token="xoxb-1", channel="C1", base_url=f"{web.url}/api/")
    message = a_message()
    first = bot.send(message, (), None)
    bot.send(a_message("recovered"), ("C2",), first)
    one, other = web.posts
    assert one.path == "/api/chat.postMessage"
    assert one.headers["authorization"] == "Bearer xoxb-1"
    assert one.body["client_msg_id"] == str(message.key)
    assert (one.body["channel"], other.body["channel"]) == ("C1", "C2")
    assert "thread_ts" not in one.body
    assert (other.body["thread_ts"], other.body["reply_broadcast"]) == (first, True)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("invalid_auth", errors.AuthenticationFailed),
        ("channel_not_found", errors.BadInput),
        ("ratelimited", errors.ServiceUnavailable),
    ],
)
def test_what_slack_says_to_a_bot(web: WebSink, said: str, error: type[Exception]) -> None:
    """Its words are known."""
    web.slack_error = said
    bot = AlertSlackBot(token="xoxb-1", channel="C1", base_url=f"{web.url}/api/")
    with pytest.raises(error, match=said):
        bot.send(a_message(), (), None)


@APPRISE_IS_OLD
def test_apprise(web: WebSink) -> None:
    """A webhook gets title, text and the key as a header; a recovery is a success."""
    service = AlertApprise(url=f"{web.url.replace('http', 'json')}/hook")
    message = a_message()
    service.send(message, (), None)
    service.send(a_message("recovered"), (), None)
    one, other = web.posts
    assert one.headers["idempotency-key"] == str(message.key)
    assert (one.body["title"], one.body["type"]) == (message.subject, "failure")
    assert "Is line 3 under power?" in one.body["message"]
    assert other.body["type"] == "success"


@APPRISE_IS_OLD
@pytest.mark.parametrize(
    ("url", "error"),
    [("no-such-service://x", errors.BadInput), ("", errors.ServiceUnavailable)],
)
def test_what_apprise_cannot_send(web: WebSink, url: str, error: type[Exception]) -> None:
    """An address that it does not know; a service that does not take it."""
    web.status = 500
    service = AlertApprise(url=url or f"{web.url.replace('http', 'json')}/hook")
    with pytest.raises(error):
        service.send(a_message(), (), None)
