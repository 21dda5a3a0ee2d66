"""A web site, the browser to open it with, and the user to log in as."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, HttpUrl, SecretStr

from blocks.connection import Connection
from smartops.durations import Duration, duration_field

if TYPE_CHECKING:
    from smartops.drivers import browser


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

    @property
    def connection(self) -> browser.Connection:
        """The driver's view of the profile."""
        from smartops.drivers import browser  # noqa: PLC0415 - Playwright is slow to import

        return browser.Connection(
            name=self.connection_name,
            base_url=str(self.base_url).rstrip("/"),
            username=self.username,
            password=self.password.get_secret_value() if self.password else None,
            executable=self.executable,
            headless=self.headless,
            width=self.width,
            height=self.height,
            locale=self.locale,
            timeout=self.timeout,
            shared=self.shared,
        )

    def open(self) -> AbstractAsyncContextManager[browser.Page]:
        """Give a page of a fresh browser for the length of an ``async with``."""
        from smartops.drivers import browser  # noqa: PLC0415 - Playwright is slow to import

        return browser.open_page(self.connection)
