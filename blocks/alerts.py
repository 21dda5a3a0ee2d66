"""Ways to reach people with alerts, and how to log in to them."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import Self

from pydantic import Field, HttpUrl, SecretStr, model_validator

from blocks.connection import Connection
from smartops.alerts.by_apprise import AppriseService
from smartops.alerts.by_mail import MailServer, Security
from smartops.alerts.by_slack import SlackBot, SlackWebhook
from smartops.alerts.message import Message
from smartops.durations import Duration, duration_field
from smartops.errors import BadInput

_LONGEST = timedelta(seconds=60)


class AlertChannel(Connection):
    """A way to reach people with alerts."""

    @abstractmethod
    def send(self, message: Message, to: tuple[str, ...], thread: str | None) -> str:
        """Send a message; return what it is known by there.

        ``to`` are those whom the policy names, ``thread`` is what the alert's first message is
        known by. Raises TransientError when it may work later, PermanentError when not.
        """


class AlertMail(AlertChannel):
    """A mail server, and to whom alerts go by it. Reports are mailed by one as well.

    Example:
        Load a saved mail server:
        ```python
        from blocks import AlertMail

        mail = AlertMail.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Alert Mail"
    _block_type_slug = "alert-mail"

    host: str = Field(title="Host", min_length=1, description="Host name or address.")
    port: int = Field(
        default=587,
        ge=1,
        le=65535,
        title="Port",
        description="Its port: 587 is usual with STARTTLS, 465 with TLS, 25 without.",
    )
    security: Security = Field(
        default="starttls",
        title="Security",
        description="starttls and tls encrypt, and check the server's certificate; none does not.",
    )
    sender: str = Field(
        title="Sender",
        pattern=r"^[^@\s]+@[^@\s]+$",
        description="The address that alerts come from.",
    )
    to: list[str] = Field(
        default_factory=list,
        title="To",
        description="Addresses that alerts go to where the policy names none.",
    )
    username: str | None = Field(default=None, title="User name", description="Who logs in.")
    password: SecretStr | None = Field(default=None, title="Password", description="Its password.")
    ca_file: str | None = Field(
        default=None,
        title="CA file",
        description="Path of the certificates (PEM) that the server's has to come from; empty: "
        "those of the machine.",
    )
    timeout: Duration = duration_field(
        "20s",
        gt=timedelta(),
        le=_LONGEST,
        title="Timeout",
        description="How long to wait for the server to answer, such as 20s.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("user name and password go together")
        if self.security == "none" and (self.password is not None or self.ca_file):
            raise ValueError("a password and certificates go with starttls or tls")
        return self

    def send(self, message: Message, to: tuple[str, ...], thread: str | None) -> str:
        """Send a mail to all, with text and HTML."""
        everybody = to or tuple(self.to)
        if not everybody:
            raise BadInput(f"{self.connection_name}: nobody stands there whom a mail could go to")
        return self.server().send(message, everybody)

    def server(self) -> MailServer:
        """Return where its mails are handed in, and by whom."""
        return MailServer(
            self.host,
            self.port,
            self.security,
            self.sender,
            self.username,
            self.password.get_secret_value() if self.password else None,
            self.ca_file,
            self.timeout.total_seconds(),
        )


class AlertSlackWebhook(AlertChannel):
    """An incoming webhook of Slack, which posts into one channel.

    Example:
        Load a saved webhook:
        ```python
        from blocks import AlertSlackWebhook

        webhook = AlertSlackWebhook.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Alert Slack Webhook"
    _block_type_slug = "alert-slack-webhook"

    url: SecretStr = Field(
        title="URL", description="The webhook's address. Who knows it can post, so it is a secret."
    )

    def send(self, message: Message, to: tuple[str, ...], thread: str | None) -> str:
        """Post into the webhook's channel."""
        return SlackWebhook(self.url.get_secret_value()).send(message)


class AlertSlackBot(AlertChannel):
    """A bot of Slack, which keeps the messages of an alert in one thread.

    Example:
        Load a saved bot:
        ```python
        from blocks import AlertSlackBot

        bot = AlertSlackBot.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Alert Slack Bot"
    _block_type_slug = "alert-slack-bot"

    token: SecretStr = Field(
        title="Token", description="The bot's token (xoxb-...), with the right chat:write."
    )
    channel: str = Field(
        default="",
        title="Channel",
        description="The channel's id or name, such as C0123456789, where the policy names none.",
    )
    base_url: HttpUrl = Field(
        default=HttpUrl("https://slack.com/api/"),
        title="Base URL",
        description="Where Slack's API is; another one for a proxy or a test.",
    )

    def send(self, message: Message, to: tuple[str, ...], thread: str | None) -> str:
        """Post into the first channel that is named; into the alert's thread where there is one."""
        channel = to[0] if to else self.channel
        if not channel:
            raise BadInput(f"{self.connection_name}: no channel stands there to post into")
        bot = SlackBot(self.token.get_secret_value(), str(self.base_url))
        return bot.send(message, channel, thread)


class AlertApprise(AlertChannel):
    """A service that Apprise reaches: Teams, Telegram, PagerDuty, Opsgenie, webhooks and more.

    Example:
        Load a saved service:
        ```python
        from blocks import AlertApprise

        service = AlertApprise.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Alert Apprise"
    _block_type_slug = "alert-apprise"

    url: SecretStr = Field(
        title="URL",
        description="The service as Apprise writes it, such as pagerduty://key@token. It has the "
        "credentials in it, so it is a secret.",
    )

    def send(self, message: Message, to: tuple[str, ...], thread: str | None) -> str:
        """Send to the service."""
        return AppriseService(self.url.get_secret_value()).send(message)


CHANNELS: dict[str, type[AlertChannel]] = {
    "alert-mail": AlertMail,
    "alert-slack-webhook": AlertSlackWebhook,
    "alert-slack-bot": AlertSlackBot,
    "alert-apprise": AlertApprise,
}
"""The types of channels, by the name that a policy gives them."""
