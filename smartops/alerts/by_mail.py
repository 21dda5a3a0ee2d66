"""Sends a message by mail, over TLS unless one's own machine takes it."""

from __future__ import annotations

import smtplib
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Literal

from smartops.alerts.message import Message
from smartops.errors import AuthenticationFailed, BadInput, ServiceUnavailable

Security = Literal["starttls", "tls", "none"]
_HEADER_LENGTH = 180


@dataclass(frozen=True)
class MailServer:
    """Where mails are handed in, and by whom."""

    host: str
    port: int
    security: Security
    sender: str
    username: str | None = None
    password: str | None = None
    ca_file: str | None = None
    timeout_s: float = 20.0

    def send(self, message: Message, to: tuple[str, ...]) -> str:
        """Send a message; return what it is known by. Raises as :meth:`hand_in` does."""
        return self.hand_in(self.as_mail(message, to), to)

    def hand_in(self, mail: EmailMessage, to: tuple[str, ...]) -> str:
        """Give the server a mail; return its id.

        Raises ServiceUnavailable when it may work later; AuthenticationFailed and BadInput when the
        server refuses the login, the sender or everybody whom it is for.
        """
        try:
            with self._connect() as smtp:
                self._log_in(smtp)
                refused = smtp.send_message(mail, self.sender, list(to))
        except smtplib.SMTPAuthenticationError as error:
            raise AuthenticationFailed(f"mail server {self.host}: {_said(error)}") from error
        except (smtplib.SMTPRecipientsRefused, smtplib.SMTPSenderRefused) as error:
            raise self._refusal(error) from error
        except smtplib.SMTPResponseException as error:
            raise self._answer(error) from error
        except (OSError, smtplib.SMTPException) as error:
            raise ServiceUnavailable(f"mail server {self.host}: {error}") from error
        if refused:
            raise BadInput(f"mail server {self.host} refuses {', '.join(sorted(refused))}")
        return str(mail["Message-ID"])

    def _connect(self) -> smtplib.SMTP:
        if self.security == "tls":
            context = ssl.create_default_context(cafile=self.ca_file)
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout_s, context=context)
        return smtplib.SMTP(self.host, self.port, timeout=self.timeout_s)

    def _log_in(self, smtp: smtplib.SMTP) -> None:
        if self.security == "starttls":
            smtp.starttls(context=ssl.create_default_context(cafile=self.ca_file))
        if self.username is not None and self.password is not None:
            smtp.login(self.username, self.password)

    def _refusal(
        self, error: smtplib.SMTPRecipientsRefused | smtplib.SMTPSenderRefused
    ) -> ServiceUnavailable | BadInput:
        """Return what a refusal means: codes below 500 may be gone later."""
        if isinstance(error, smtplib.SMTPSenderRefused):
            return self._answer(error)
        said = "; ".join(
            f"{who}: {code} {_text(text)}" for who, (code, text) in error.recipients.items()
        )
        later = any(code < 500 for code, _ in error.recipients.values())
        kind = ServiceUnavailable if later else BadInput
        return kind(f"mail server {self.host} refuses {said}")

    def _answer(self, error: smtplib.SMTPResponseException) -> ServiceUnavailable | BadInput:
        kind = ServiceUnavailable if error.smtp_code < 500 else BadInput
        return kind(f"mail server {self.host}: {_said(error)}")

    def as_mail(self, message: Message, to: tuple[str, ...]) -> EmailMessage:
        """Return the mail: text and HTML, with an id that is the same for each attempt."""
        mail = EmailMessage()
        mail["Subject"] = _one_line(message.subject)
        mail["From"] = self.sender
        mail["To"] = ", ".join(to)
        mail["Date"] = format_datetime(datetime.now(UTC))
        mail["Message-ID"] = self._id(str(message.key))
        # Mail programs show the messages of one alert together.
        thread = self._id(f"alert-{message.thread}")
        mail["References"] = thread
        mail["In-Reply-To"] = thread
        mail["X-SmartOps-Severity"] = message.severity
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        mail.add_alternative(message.html, subtype="html")
        return mail

    def _id(self, name: str) -> str:
        domain = self.sender.rpartition("@")[2].rstrip("> ") or socket.gethostname()
        return f"<{name}@{domain}>"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:_HEADER_LENGTH]


def _text(said: bytes | str) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def _said(error: smtplib.SMTPResponseException) -> str:
    return f"{error.smtp_code} {_text(error.smtp_error)}"
