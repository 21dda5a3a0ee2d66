"""OAuth 2 towards REST services: tokens for this machine, got once and used by every run.

A token is kept in the home folder, for its owner alone, encrypted by what only who knows the
client's secret can make. Who finds that it has expired gets a new one while the others wait.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from filelock import FileLock, Timeout

from smartops import errors, redact
from smartops.file_names import file_name
from smartops.settings import get_settings
from smartops.whole_file import write_whole

_POLL_S = 0.02
_EARLY_S = 30.0
"""How long before its end a token is not used any more, but for a tenth of a short life."""
Post = Callable[[str, Mapping[str, str], str], Awaitable[tuple[int, Any]]]
"""Sends a form to a URL with some headers; gives the status and the body."""


@dataclass(frozen=True)
class OAuth:
    """Where tokens come from, and for whom."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str = ""
    audience: str = ""
    refresh_token: str | None = field(default=None, repr=False)
    """With it, tokens are those of the person who gave it; without, the client's own."""
    in_body: bool = False
    """Whether the client's secret is sent in the form, and not as basic authentication."""


@dataclass(frozen=True)
class Token:
    """A token, and until when it is used; ``refresh`` gets the next one. Seconds since 1970."""

    access: str = field(repr=False)
    until: float | None = None
    refresh: str | None = field(default=None, repr=False)

    def is_good(self, refused: str | None) -> bool:
        """Return whether it may be used; one that the service has refused may not."""
        return self.access != refused and (self.until is None or time.time() < self.until)


class Tokens:
    """The tokens of one client."""

    def __init__(self, name: str, oauth: OAuth, post: Post) -> None:
        self._name, self._oauth, self._post = name, oauth, post
        whose = f"{oauth.client_id} at {oauth.url} for {oauth.scope} {oauth.audience}"
        if oauth.refresh_token:
            whose += f" by {hashlib.sha256(oauth.refresh_token.encode()).hexdigest()[:16]}"
        self._path = get_settings().home / "tokens" / file_name(whose)

    async def access(self, refused: str | None = None) -> str:
        """Return a token that is good now; not one that the service has just ``refused``.

        Raises AuthenticationFailed and ServiceUnavailable.
        """
        token = self._load()
        if token is None or not token.is_good(refused):
            async with self._alone():
                token = self._load()  # somebody else may have got one meanwhile
                if token is None or not token.is_good(refused):
                    token = await self._get(token)
                    self._save(token)
        redact.register(token.access)
        redact.register(token.refresh)
        return token.access

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(f"{self._path}.lock", is_singleton=False)
        while True:
            with contextlib.suppress(Timeout):
                lock.acquire(blocking=False)
                break
            await asyncio.sleep(_POLL_S)
        try:
            yield
        finally:
            lock.release()

    async def _get(self, known: Token | None) -> Token:
        """Get a new token; with a refresh token that is refused, by the one of the connection."""
        given = self._oauth.refresh_token
        if given is None:
            return await self._ask("client_credentials", None)
        if known is not None and known.refresh not in {None, given}:
            with contextlib.suppress(errors.AuthenticationFailed):
                return await self._ask("refresh_token", known.refresh)
        return await self._ask("refresh_token", given)

    async def _ask(self, grant: str, refresh: str | None) -> Token:
        # Few services want OAuth.
        from authlib.oauth2.auth import (  # type: ignore[import-untyped]  # noqa: PLC0415
            ClientAuth,
        )
        from authlib.oauth2.rfc6749.parameters import (  # type: ignore[import-untyped]  # noqa: PLC0415
            prepare_token_request,
        )

        oauth = self._oauth
        further = {"scope": oauth.scope, "audience": oauth.audience, "refresh_token": refresh or ""}
        form = prepare_token_request(grant, "", **{k: v for k, v in further.items() if v})
        way = "client_secret_post" if oauth.in_body else "client_secret_basic"
        login = ClientAuth(oauth.client_id, oauth.client_secret, way)
        url, headers, form = login.prepare("POST", oauth.url, {}, form)
        redact.register(headers.get("Authorization", "").removeprefix("Basic "))
        status, answer = await self._post(url, headers, form)
        if status != 200 or not isinstance(answer, dict) or not answer.get("access_token"):
            raise self._refused(status, answer)
        return self._token(answer, refresh)

    def _token(self, answer: Mapping[str, Any], refresh: str | None) -> Token:
        until = None
        with contextlib.suppress(KeyError, TypeError, ValueError):
            lasts_s = float(answer["expires_in"])
            until = time.time() + lasts_s - min(_EARLY_S, lasts_s / 10)
        next_refresh = answer.get("refresh_token") or refresh
        return Token(str(answer["access_token"]), until, next_refresh and str(next_refresh))

    def _refused(self, status: int, answer: Any) -> errors.AuthenticationFailed:
        said = ""
        if isinstance(answer, dict):
            said = f"{answer.get('error', '')} {answer.get('error_description', '')}".strip()
        text = f"{self._name}: {self._oauth.url} gives no token: {status} {said}".rstrip()
        return errors.AuthenticationFailed(
            redact.text(text), hint=f"Check the OAuth fields of connection {self._name!r}."
        )

    def _load(self) -> Token | None:
        try:
            plain = self._cipher().decrypt(self._path.read_bytes())
            return Token(**json.loads(plain))
        except Exception:  # noqa: BLE001 - none yet, of another secret, or cut by a full disk
            return None

    def _save(self, token: Token) -> None:
        sealed = self._cipher().encrypt(json.dumps(asdict(token)).encode())
        write_whole(self._path, sealed, mode=0o600)

    def _cipher(self) -> Any:
        from cryptography.fernet import Fernet  # noqa: PLC0415 - few services want OAuth

        key = hashlib.sha256(b"smartops token cache\0" + self._oauth.client_secret.encode())
        return Fernet(base64.urlsafe_b64encode(key.digest()))
