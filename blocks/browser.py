"""A web site, the browser to open it with, and the user to log in as."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from prefect.types import SecretDict
from pydantic import Field, HttpUrl, SecretStr, model_validator

from blocks.connection import Connection, plain
from smartops import redact
from smartops.durations import Duration, duration_field
from smartops.jobs.scheduling import ZoneName
from smartops.page_actions import Action, Target

if TYPE_CHECKING:
    from smartops.drivers import browser as driver


_ALIKE = (
    "username",
    "executable",
    "headless",
    "width",
    "height",
    "locale",
    "timeout",
    "shared",
    "timezone",
    "user_agent",
    "http_login",
    "keep_session",
    "allow_scripts",
)
"""The fields that are called alike in the driver."""


class BrowserProfile(Connection):
    """How to open a web site.

    Example:
        Load a saved profile:
        ```python
        from blocks import BrowserProfile

        profile = BrowserProfile.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "Browser Profile"
    _block_type_slug = "browser-profile"

    base_url: HttpUrl = Field(
        title="Base URL", description="The site, such as https://hmi.example.com."
    )
    username: str | None = Field(
        default=None, title="User name", description="What a fill action types as username."
    )
    password: SecretStr | None = Field(
        default=None, title="Password", description="What a fill action types as password."
    )
    secrets: SecretDict | None = Field(
        default=None,
        title="Further secrets",
        description="What else a fill action may type, by name, such as a PIN. Never shown.",
    )
    browser: Literal["chromium", "firefox", "webkit"] = Field(
        default="chromium",
        title="Browser",
        description="Which browser. Firefox and WebKit are Playwright's own builds.",
    )
    executable: Path | None = Field(
        default=None,
        title="Executable",
        description="Path of the browser on the worker. Empty: Chromium or Chrome, as found.",
    )
    headless: bool = Field(
        default=True, title="Headless", description="Whether to run without a window."
    )
    width: int = Field(
        default=1280, ge=100, le=7680, title="Width", description="Width of the page in pixels."
    )
    height: int = Field(
        default=800, ge=100, le=4320, title="Height", description="Height of the page in pixels."
    )
    locale: str = Field(
        default="en-GB", title="Locale", description="Language and region that the site is told."
    )
    timezone: ZoneName | None = Field(
        default=None,
        title="Time zone",
        description="The time zone that pages see, such as Europe/Berlin. Empty: the worker's.",
    )
    user_agent: str | None = Field(
        default=None,
        min_length=1,
        title="User agent",
        description="What the browser calls itself. Empty: what it is.",
    )
    proxy: str | None = Field(
        default=None,
        pattern=r"^(https?|socks5)://[^/@]+$",
        title="Proxy",
        description="The proxy to the site, such as http://proxy.example.com:3128.",
    )
    proxy_bypass: str = Field(
        default="",
        title="Proxy bypass",
        description="Hosts that are asked without the proxy, separated by commas.",
    )
    proxy_username: str | None = Field(
        default=None, title="Proxy user name", description="The user at the proxy."
    )
    proxy_password: SecretStr | None = Field(
        default=None, title="Proxy password", description="The password at the proxy."
    )
    http_login: bool = Field(
        default=False,
        title="HTTP login",
        description="Whether user name and password are for HTTP's own login (Basic, Digest).",
    )
    accept_any_certificate: bool = Field(
        default=False,
        title="Accept any certificate",
        description="Whether certificates are taken that nobody vouches for, as panels have them.",
    )
    allow_scripts: bool = Field(
        default=False,
        title="Allow scripts",
        description="Whether jobs may run JavaScript of their own in the pages (eval).",
    )
    keep_session: bool = Field(
        default=False,
        title="Keep session",
        description="Whether cookies and local storage are kept, encrypted, for the next step.",
    )
    login: tuple[Action, ...] = Field(
        default=(),
        title="Login",
        description="Actions that begin a session: done when a page shows that there is none.",
    )
    logged_out: Target | None = Field(
        default=None,
        title="Logged out",
        description="An element that is there when there is no session, as a login button.",
    )
    logged_out_path: str | None = Field(
        default=None,
        min_length=1,
        title="Logged out path",
        description="Glob of the path where one lands without a session, such as /login*.",
    )
    logged_in: Target | None = Field(
        default=None,
        title="Logged in",
        description="An element that is there in a session: for pages that build up slowly, one "
        "of the two is waited for.",
    )
    timeout: Duration = duration_field(
        "10s",
        gt=timedelta(),
        title="Timeout",
        description="How long one action may wait for the page, such as 10s.",
    )

    shared: bool = Field(
        default=False,
        title="Shared",
        description="Whether several steps may use the profile at the same time. Off: one after "
        "the other, as sites may end a user's session when it begins another.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.keep_session and self.shared:
            raise ValueError(
                "a kept session is used by one step at a time: not by a shared profile"
            )
        condition = self.logged_out is not None or self.logged_out_path is not None
        if bool(self.login) != condition:
            raise ValueError("login goes with logged_out or logged_out_path")
        if self.logged_in is not None and self.logged_out is None:
            raise ValueError("logged_in goes with logged_out")
        if self.http_login and not (self.username and self.password):
            raise ValueError("http_login needs a username and a password")
        if self.proxy is None and (self.proxy_bypass or self.proxy_username or self.proxy_password):
            raise ValueError("proxy_bypass, proxy_username and proxy_password go with proxy")
        return self

    def block_initialization(self) -> None:
        """Let the redactor know the further secrets as well."""
        super().block_initialization()
        for secret in self._further_secrets().values():
            redact.register(secret)

    def _further_secrets(self) -> dict[str, str]:
        given = self.secrets.get_secret_value() if self.secrets else {}
        return {name: str(value) for name, value in given.items()}

    @property
    def connection(self) -> driver.Connection:
        """The driver's view of the profile."""
        from smartops.drivers import browser as driver  # noqa: PLC0415 - Playwright is slow to import

        return driver.Connection(
            name=self.connection_name,
            base_url=str(self.base_url).rstrip("/"),
            password=plain(self.password),
            kind=self.browser,
            proxy=self._proxy(),
            secrets=self._further_secrets(),
            any_certificate=self.accept_any_certificate,
            login=self._login(),
            **{name: getattr(self, name) for name in _ALIKE},
        )

    def _proxy(self) -> driver.Proxy | None:
        from smartops.drivers import browser as driver  # noqa: PLC0415 - Playwright is slow to import

        if self.proxy is None:
            return None
        password = plain(self.proxy_password)
        return driver.Proxy(self.proxy, self.proxy_bypass, self.proxy_username, password)

    def _login(self) -> driver.Login | None:
        from smartops.drivers import browser as driver  # noqa: PLC0415 - Playwright is slow to import

        if not self.login:
            return None
        return driver.Login(self.login, self.logged_out, self.logged_out_path, self.logged_in)

    def open(self) -> AbstractAsyncContextManager[driver.Page]:
        """Give a page of a fresh browser for the length of an ``async with``."""
        from smartops.drivers import browser as driver  # noqa: PLC0415 - Playwright is slow to import

        return driver.open_page(self.connection)
