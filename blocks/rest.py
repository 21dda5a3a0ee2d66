"""A REST service and how to log in to it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any, Literal, Self
from urllib.parse import quote

from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator

from blocks.connection import DeviceConnection, plain, quarantine_longest_field
from smartops import redact
from smartops.drivers import rest
from smartops.drivers.rest_address import Private
from smartops.drivers.rest_oauth import OAuth
from smartops.drivers.rest_pool import Tls
from smartops.drivers.rest_rate import parse_rate
from smartops.durations import Duration, duration_field

_OAUTH = ("oauth_client_id", "oauth_client_secret")
_WITH_OAUTH = ("oauth_scope", "oauth_audience", "oauth_refresh_token", "oauth_in_body")
_NEEDS = {
    "api_key_name": "api_key",
    "api_key_in": "api_key",
    "client_key": "client_certificate",
    "client_key_password": "client_key",
    "proxy_username": "proxy",
    "proxy_password": "proxy_username",
    "signature": "signing_secret",
    **dict.fromkeys(_WITH_OAUTH, "oauth_url"),
}
"""Fields that have no effect without another one."""


class HttpService(DeviceConnection):
    """A service that is called over HTTP.

    Example:
        Load a saved service:
        ```python
        from blocks import HttpService

        service = HttpService.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Http Service"
    _block_type_slug = "http-service"

    base_url: HttpUrl = Field(
        title="Base URL", description="Where the service is, such as https://mes.example.com/api."
    )
    token: SecretStr | None = Field(
        default=None, title="Token", description="Bearer token, if the service wants one."
    )
    username: str | None = Field(
        default=None, title="User name", description="User name for basic authentication."
    )
    password: SecretStr | None = Field(
        default=None, title="Password", description="Password for basic authentication."
    )
    api_key: SecretStr | None = Field(
        default=None, title="API key", description="A key that is sent with each request."
    )
    api_key_name: str = Field(
        default="X-API-Key",
        min_length=1,
        title="Name of the API key",
        description="The name of the header or of the query parameter that it is sent as.",
    )
    api_key_in: Literal["header", "query"] = Field(
        default="header",
        title="Place of the API key",
        description="Whether it is sent as a header or as a query parameter.",
    )
    oauth_url: HttpUrl | None = Field(
        default=None,
        title="OAuth token URL",
        description="Where OAuth 2 tokens come from. They are kept, encrypted, for all runs on a "
        "machine.",
    )
    oauth_client_id: str | None = Field(
        default=None, title="OAuth client", description="The client's id at the token URL."
    )
    oauth_client_secret: SecretStr | None = Field(
        default=None, title="OAuth secret", description="The client's secret at the token URL."
    )
    oauth_scope: str = Field(
        default="", title="OAuth scope", description="What the token is to allow, if it is asked."
    )
    oauth_audience: str = Field(
        default="", title="OAuth audience", description="For whom the token is, if it is asked."
    )
    oauth_refresh_token: SecretStr | None = Field(
        default=None,
        title="OAuth refresh token",
        description="Gets tokens of the person who gave it, instead of the client's own. Where the "
        "token URL gives a new one each time, the newest is kept on the machine.",
    )
    oauth_in_body: bool = Field(
        default=False,
        title="OAuth secret in the body",
        description="Send the client's secret in the form, and not as basic authentication.",
    )
    headers: dict[str, str] = Field(
        default_factory=dict,
        title="Headers",
        description="Headers sent with every request, without credentials.",
    )
    timeout: Duration = duration_field(
        "10s",
        gt=timedelta(),
        title="Timeout",
        description="How long to wait for a connection or for more of an answer, such as 10s.",
    )
    connect_timeout: Duration | None = Field(
        default=None,
        gt=timedelta(),
        title="Connect timeout",
        description="How long to wait for a connection, where that is not the timeout.",
    )
    total_timeout: Duration | None = Field(
        default=None,
        gt=timedelta(),
        title="Total timeout",
        description="How long a request with its whole answer may take; empty: as long as the step "
        "may, if more comes all the time.",
    )
    ca_file: str | None = Field(
        default=None,
        title="CA file",
        description="Path of the certificates (PEM) that the service's has to come from; empty: "
        "the public authorities.",
    )
    client_certificate: str | None = Field(
        default=None,
        title="Client certificate",
        description="Path of our certificate (PEM), for mutual TLS.",
    )
    client_key: str | None = Field(
        default=None,
        title="Client key",
        description="Path of its key (PEM), where that is a file of its own.",
    )
    client_key_password: SecretStr | None = Field(
        default=None, title="Password of the key", description="Password of the client's key."
    )
    proxy: HttpUrl | None = Field(
        default=None,
        title="Proxy",
        description="URL of a proxy, such as http://proxy.example.com:3128. The environment's is "
        "not used. Behind a proxy, addresses are looked up by the proxy.",
    )
    proxy_username: str | None = Field(
        default=None, title="User name at the proxy", description="Who logs in to the proxy."
    )
    proxy_password: SecretStr | None = Field(
        default=None, title="Password at the proxy", description="Its password."
    )
    rate_limit: str = Field(
        default="",
        title="Rate limit",
        description="How many requests the service gets at the most from all runs on a machine, "
        "such as 10/s, 100/m or 5/10s; empty: any number.",
    )
    max_redirects: int = Field(
        default=5,
        ge=0,
        le=20,
        title="Redirects",
        description="How many redirects are followed at the most; 0: a redirect is an error.",
    )
    allowed_hosts: list[str] = Field(
        default_factory=list,
        title="Allowed hosts",
        description="Further hosts that redirects, links and whole URLs may lead to, such as "
        "files.example.com or *.example.com. They get none of the credentials.",
    )
    private_addresses: Private = Field(
        default="declared",
        title="Private addresses",
        description="Whether private addresses may be connected to: those of hosts that stand in "
        "this connection (declared), none, or all, which includes metadata addresses.",
    )
    signing_secret: SecretStr | None = Field(
        default=None,
        title="Signing secret",
        description="Signs what `rest.webhook` steps send (HMAC with SHA-256), so that the "
        "receiver knows who sent it.",
    )
    signature: Literal["standard-webhooks", "body"] = Field(
        default="standard-webhooks",
        title="Signature",
        description="standard-webhooks: over id, time and body, as that specification has it; "
        "body: over the body alone, as X-Hub-Signature-256.",
    )
    quarantine_after: int = Field(
        default=5,
        ge=0,
        le=1000,
        title="Quarantine after",
        description="After how many times in a row without an answer, or with 502, 503 or 504, the "
        "service's host is left alone for a while; 0: never.",
    )
    quarantine_longest: Duration = quarantine_longest_field()

    @field_validator("rate_limit")
    @classmethod
    def _rate(cls, text: str) -> str:
        if text:
            parse_rate(text)
        return text

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            name = host.removeprefix("*.")
            if not name or "*" in name or "/" in name or (":" in name and "[" in name):
                raise ValueError(f"{host!r} is no host; write files.example.com or *.example.com")
        return hosts

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.token is not None and self.username is not None:
            raise ValueError("give either a token or a user name, not both")
        if (self.username is None) != (self.password is None):
            raise ValueError("user name and password go together")
        ways = (self.token, self.username, self.api_key, self.oauth_url)
        if sum(way is not None for way in ways) > 1:
            raise ValueError("give one of token, user name, API key and OAuth token URL")
        return self

    @model_validator(mode="after")
    def _nothing_in_vain(self) -> Self:
        fields = type(self).model_fields
        for name, needed in _NEEDS.items():
            is_given = getattr(self, name) != fields[name].default
            if is_given and getattr(self, needed) is None:
                raise ValueError(f"{name} has no effect without {needed}")
        for name in _OAUTH:
            if (getattr(self, name) is None) != (self.oauth_url is None):
                raise ValueError(f"oauth_url and {name} go together")
        return self

    def open(self) -> AbstractAsyncContextManager[rest.RestDriver]:
        """Give a client for the length of an ``async with``."""
        return rest.open_service(self.connection)

    @property
    def connection(self) -> rest.Connection:
        """What the driver has to know."""
        return rest.Connection(
            name=self.connection_name,
            base_url=str(self.base_url).rstrip("/"),
            **self._login(),
            headers=dict(self.headers),
            timeout=self.timeout,
            connect_timeout=self.connect_timeout,
            total_timeout=self.total_timeout,
            tls=Tls(
                self.ca_file,
                self.client_certificate,
                self.client_key,
                plain(self.client_key_password),
            ),
            proxy=self._proxy(),
            allowed_hosts=tuple(self.allowed_hosts),
            private_addresses=self.private_addresses,
            max_redirects=self.max_redirects,
            rate=parse_rate(self.rate_limit) if self.rate_limit else None,
            patience=self.patience(),
        )

    def _login(self) -> dict[str, Any]:
        secret, key = plain(self.signing_secret), plain(self.api_key)
        return {
            "token": plain(self.token),
            "username": self.username,
            "password": plain(self.password),
            "api_key": rest.ApiKey(key, self.api_key_name, self.api_key_in) if key else None,
            "oauth": self._oauth(),
            "signing": rest.Signing(secret, self.signature) if secret else None,
        }

    def _oauth(self) -> OAuth | None:
        if self.oauth_url is None:
            return None
        return OAuth(
            url=str(self.oauth_url),
            client_id=self.oauth_client_id or "",
            client_secret=plain(self.oauth_client_secret) or "",
            scope=self.oauth_scope,
            audience=self.oauth_audience,
            refresh_token=plain(self.oauth_refresh_token),
            in_body=self.oauth_in_body,
        )

    def _proxy(self) -> str | None:
        if self.proxy is None or self.proxy_username is None:
            return None if self.proxy is None else str(self.proxy)
        password = quote(plain(self.proxy_password) or "", safe="")
        redact.register(password)
        pair = f"{quote(self.proxy_username, safe='')}:{password}"
        return str(self.proxy).replace("://", f"://{pair}@", 1)
