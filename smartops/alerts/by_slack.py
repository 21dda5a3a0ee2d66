"""Sends a message to Slack: through a webhook, or as a bot with a thread for each alert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from smartops.alerts.message import Message
from smartops.errors import AuthenticationFailed, BadInput, ServiceUnavailable, SmartOpsError

_LONGEST = 2900  # Slack takes 3000 characters in a block
_MARKS = {"info": ":large_blue_circle:", "warning": ":warning:", "critical": ":rotating_light:"}
_WRONG_LOGIN = {"invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive"}
_LATER = {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable"}


def blocks(message: Message) -> list[dict[str, Any]]:
    """Return a message as Slack shows it: a heading, and the text as it is."""
    mark = ":white_check_mark:" if message.kind == "recovered" else _MARKS[message.severity]
    text = message.text.strip().replace("```", "'''")
    body = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}\n..."
    heading = f"{mark} *{escaped(message.subject)}*"
    return [
        {"type": "section", "text": {"type": "mrkdwn", "text": heading[:_LONGEST]}},
        {"type": "section", "text": {"type": "mrkdwn", "text": f"```{escaped(body)}```"}},
    ]


def escaped(text: str) -> str:
    """Return a text in which Slack finds no marks of its own, such as <!channel>."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


@dataclass(frozen=True)
class SlackWebhook:
    """An address that posts into one channel."""

    url: str
    timeout_s: int = 20

    def send(self, message: Message) -> str:
        """Post a message; return its key. Raises ServiceUnavailable, BadInput."""
        from slack_sdk.errors import SlackClientError  # noqa: PLC0415 - not needed everywhere
        from slack_sdk.webhook import WebhookClient  # noqa: PLC0415

        client = WebhookClient(self.url, timeout=self.timeout_s)
        key = str(message.key)
        # The key goes with it, so that what is posted twice can be told.
        body = {"text": message.subject, "blocks": blocks(message), "client_msg_id": key}
        try:
            answer = client.send_dict(body)
        except (OSError, SlackClientError) as error:
            raise ServiceUnavailable(f"Slack webhook: {type(error).__name__}: {error}") from error
        if answer.status_code != 200:
            said = f"Slack webhook: {answer.status_code} {answer.body[:200]}"
            later = answer.status_code == 429 or answer.status_code >= 500
            raise ServiceUnavailable(said) if later else BadInput(said)
        return key


@dataclass(frozen=True)
class SlackBot:
    """A bot that posts into channels it is a member of."""

    token: str
    base_url: str = "https://slack.com/api/"
    timeout_s: int = 20

    def send(self, message: Message, channel: str, thread: str | None) -> str:
        """Post a message, into the thread of its alert where there is one; return its time stamp.

        Raises ServiceUnavailable, AuthenticationFailed, BadInput.
        """
        from slack_sdk import WebClient  # noqa: PLC0415 - not needed everywhere
        from slack_sdk.errors import SlackApiError, SlackClientError  # noqa: PLC0415

        client = WebClient(self.token, base_url=self.base_url, timeout=self.timeout_s)
        try:
            answer = client.chat_postMessage(
                channel=channel,
                text=message.subject,
                blocks=blocks(message),
                thread_ts=thread,
                # A recovery is seen by who does not look into the thread as well.
                reply_broadcast=thread is not None and message.kind in {"recovered", "escalated"},
                client_msg_id=str(message.key),
            )
        except SlackApiError as error:
            raise _mapped(str(error.response.get("error", error))) from error
        except (OSError, SlackClientError) as error:
            raise ServiceUnavailable(f"Slack: {type(error).__name__}: {error}") from error
        return str(answer["ts"])


def _mapped(said: str) -> SmartOpsError:
    """Return the error that Slack's word stands for."""
    if said in _WRONG_LOGIN:
        return AuthenticationFailed(f"Slack: {said}", hint="Look at the token of the connection.")
    if said in _LATER:
        return ServiceUnavailable(f"Slack: {said}")
    return BadInput(f"Slack: {said}", hint="Look at the channel, and whether the bot is in it.")
