"""Where alerts arrive in the tests: a mail server with TLS, and a web server that plays Slack."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from blocks import AlertMail
from tests.conftest import free_port

USER, PASSWORD = "smartops", "open-sesame-9"


class MailSink:
    """A mail server on this machine: it keeps what it is given."""

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        self.mails: list[EmailMessage] = []
        self.refuse: dict[str, str] = {}
        """What it answers to a recipient, such as ``550 no such person``."""
        authority = trustme.CA()
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        self.port = free_port()
        self.tls = tls
        options: dict[str, Any] = {"authenticator": self._authenticate, "auth_required": True}
        if tls:
            options |= {"auth_require_tls": False, "auth_required": False}
        else:
            options |= {"tls_context": context, "require_starttls": True}
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            ssl_context=context if tls else None,
            **options,
        )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        right = (data.login.decode(), data.password.decode()) == (USER, PASSWORD)
        return AuthResult(success=right, handled=False)

    async def handle_RCPT(  # noqa: N802 - the server's own name for it
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take or refuse a recipient."""
        if (answer := self.refuse.get(address)) is not None:
            return answer
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep a mail."""
        assert isinstance(envelope.content, bytes)
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 kept"

    def block(self, **fields: Any) -> AlertMail:
        """Return the connection to it."""
        known: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": self.port,
            "security": "tls" if self.tls else "starttls",
            "sender": "smartops@plant.example",
            "to": ["shift@plant.example"],
            "username": USER,
            "password": PASSWORD,
            "ca_file": str(self.ca_file),
            "timeout": "10s",
        }
        return AlertMail(**{**known, **fields})

    @contextmanager
    def running(self) -> Iterator[MailSink]:
        """Run it."""
        self._controller.start()
        try:
            yield self
        finally:
            self._controller.stop()


@dataclass
class Posted:
    """A request that came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class WebSink:
    """A web server on this machine: webhooks, and Slack's API as far as a bot needs it."""

    posts: list[Posted] = field(default_factory=list)
    status: int = 200
    slack_error: str = ""
    hold: threading.Event = field(default_factory=threading.Event)
    """While it is set, nobody gets an answer."""
    url: str = ""

    def answer(self, path: str) -> bytes:
        """Return what a path gives."""
        if not path.startswith("/api/"):
            return b"ok"
        if self.slack_error:
            return json.dumps({"ok": False, "error": self.slack_error}).encode()
        return json.dumps({"ok": True, "ts": f"{len(self.posts)}.000100", "channel": "C1"}).encode()

    @contextmanager
    def running(self) -> Iterator[WebSink]:
        """Run it."""
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                sink.posts.append(Posted(self.path, headers, json.loads(body)))
                while sink.hold.is_set():
                    time.sleep(0.01)
                answer = sink.answer(self.path)
                try:
                    self.send_response(sink.status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)
                except OSError:
                    return  # who asked was killed

            def log_message(self, *_arguments: Any) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield self
        finally:
            self.hold.clear()
            server.shutdown()
            thread.join()
            server.server_close()
