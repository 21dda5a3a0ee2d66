"""A REST service and how to log in to it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Self

from pydantic import Field, HttpUrl, SecretStr, model_validator

from blocks.connection import Connection
from smartops.drivers import rest
from smartops.durations import Duration, duration_field


class HttpService(Connection):
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

    @model_validator(mode="after")
    def _one_login(self) -> Self:
        if self.token is not None and self.username is not None:
            raise ValueError("give either a token or a user name, not both")
        if (self.username is None) != (self.password is None):
            raise ValueError("user name and password go together")
        return self

    def open(self) -> AbstractAsyncContextManager[rest.RestDriver]:
        """Give a client for the length of an ``async with``."""
        return rest.open_service(
            rest.Connection(
                name=self.connection_name,
                base_url=str(self.base_url).rstrip("/"),
                token=self.token.get_secret_value() if self.token else None,
                username=self.username,
                password=self.password.get_secret_value() if self.password else None,
                headers=dict(self.headers),
                timeout=self.timeout,
            )
        )
