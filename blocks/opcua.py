"""An OPC UA server and its tag map."""

from __future__ import annotations

import re
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Self

from pydantic import Field, SecretStr, model_validator

from blocks.connection import (
    DeviceConnection,
    plain,
    quarantine_after_field,
    quarantine_longest_field,
)
from smartops.drivers import opcua, opcua_session
from smartops.drivers.device_tag import check_names
from smartops.drivers.opcua_tags import OpcTag
from smartops.durations import Duration, duration_field


class OpcUaServer(DeviceConnection):
    """A server that speaks OPC UA, with names for its nodes.

    Example:
        Load a saved server and read from it:
        ```python
        from blocks import OpcUaServer

        server = OpcUaServer.load("BLOCK_NAME")
        ```
    """

    _block_type_name = "OPC UA Server"
    _block_type_slug = "opcua-server"

    url: str = Field(
        pattern=r"^opc\.tcp://[^/@\s]+(/\S*)?$",
        title="URL",
        description="Where it is, such as opc.tcp://10.0.0.9:4840.",
    )
    security_policy: opcua_session.Policy = Field(
        default="none",
        title="Security policy",
        description="How the connection is secured; the last two are no longer safe, for old "
        "servers only.",
    )
    security_mode: opcua_session.Mode = Field(
        default="sign-and-encrypt",
        title="Security mode",
        description="With a policy: whether messages are also encrypted, or signed only.",
    )
    server_fingerprint: str = Field(
        default="",
        title="Server's fingerprint",
        description="SHA-256 of the server's certificate, to pin it. Empty: the certificate that "
        "`smartops device trust` has put down.",
    )
    username: str | None = Field(default=None, title="User name", description="Who logs in.")
    password: SecretStr | None = Field(default=None, title="Password", description="Its password.")
    password_in_the_clear: bool = Field(
        default=False,
        title="Password in the clear",
        description="Whether the password may go over a connection that is not encrypted.",
    )
    user_certificate: str | None = Field(
        default=None,
        title="User certificate",
        description="Path of the certificate of a user who logs in with it, instead of a password.",
    )
    user_key: str | None = Field(
        default=None, title="User key", description="Path of the key of that certificate (PEM)."
    )
    timeout: Duration = duration_field(
        "4s",
        gt=timedelta(),
        title="Timeout",
        description="How long to wait for an answer, such as 4s.",
    )
    quarantine_after: int = quarantine_after_field()
    quarantine_longest: Duration = quarantine_longest_field()
    tags: list[OpcTag] = Field(
        default_factory=list,
        title="Tags",
        description="The tag map: a name and a node for each value.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_names(self.tags)
        if (self.username is None) != (self.password is None):
            raise ValueError("user name and password go together")
        if (self.user_certificate is None) != (self.user_key is None):
            raise ValueError("a user's certificate and key go together")
        if self.username is not None and self.user_certificate is not None:
            raise ValueError("a user logs in with a password or with a certificate, not both")
        fingerprint = self.server_fingerprint.replace(":", "")
        if fingerprint and not re.fullmatch(r"[0-9A-Fa-f]{64}", fingerprint):
            raise ValueError("a fingerprint has 64 hexadecimal digits")
        encrypted = self.security_policy != "none" and self.security_mode == "sign-and-encrypt"
        if self.password is not None and not encrypted and not self.password_in_the_clear:
            raise ValueError(
                "the password would go over a connection that is not encrypted; choose a security "
                "policy, or say password_in_the_clear"
            )
        if self.password is None and self.password_in_the_clear:
            raise ValueError("password_in_the_clear goes with a password")
        if self.security_policy == "none" and (fingerprint or self.security_mode == "sign"):
            raise ValueError("without a security policy there is nothing to sign or to pin")
        return self

    def connection(self) -> opcua_session.Connection:
        """Return what the driver needs."""
        return opcua_session.Connection(
            name=self.connection_name,
            url=self.url,
            tags=tuple(self.tags),
            policy=self.security_policy,
            mode=self.security_mode,
            username=self.username,
            password=plain(self.password),
            user_certificate=self.user_certificate,
            user_key=self.user_key,
            pinned=self.server_fingerprint,
            timeout=self.timeout,
            patience=self.patience(),
        )

    def open(self) -> AbstractAsyncContextManager[opcua.OpcUaDriver]:
        """Connect with a session, for the length of an ``async with``."""
        return opcua.open_server(self.connection())

    def watched(self) -> AbstractAsyncContextManager[opcua.OpcUaDriver]:
        """Connect with a session beside which others may use the server, to watch its changes."""
        return opcua.open_server(self.connection(), alone=False)
