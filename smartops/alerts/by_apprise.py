"""Sends a message by Apprise: to Teams, Telegram, PagerDuty, Opsgenie, webhooks and many more."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from smartops import redact
from smartops.alerts.message import Message
from smartops.errors import BadInput, ServiceUnavailable

_OWN_HEADERS = ("json", "jsons", "xml", "xmls", "form", "forms")
"""Services whose address may name headers: they get the message's key in one."""
_TYPES = {"info": "info", "warning": "warning", "critical": "failure"}


@dataclass(frozen=True)
class AppriseService:
    """A service by its Apprise address."""

    url: str

    def send(self, message: Message) -> str:
        """Send a message; return its key. Raises ServiceUnavailable, BadInput."""
        import apprise  # noqa: PLC0415 - slow to import

        service = apprise.Apprise()
        if not service.add(_with_key(self.url, str(message.key))):
            raise BadInput(
                "Apprise does not know the address of the connection",
                hint="See Apprise's list of services for how one is written.",
            )
        kind = "success" if message.kind == "recovered" else _TYPES[message.severity]
        capture: Any = apprise.LogCapture  # it has no types
        with capture(level=logging.WARNING, fmt="%(message)s") as log:
            done = service.notify(
                title=message.subject,
                body=message.text,
                notify_type=apprise.NotifyType(kind),
                body_format=apprise.NotifyFormat.TEXT,
            )
            said = " ".join(redact.text(log.getvalue()).split())
        if not done:
            raise ServiceUnavailable(f"Apprise: {said or 'the service did not take it'}")
        return str(message.key)


def _with_key(url: str, key: str) -> str:
    """Return an address that also sends the message's key, where the service can take it."""
    if url.partition(":")[0].lower() not in _OWN_HEADERS:
        return url
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}+Idempotency-Key={quote(key)}"
